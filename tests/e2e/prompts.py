"""Prompts of mixed length for the real model."""

from __future__ import annotations

QUESTIONS = (
    "What is the capital of France?",
    "Write one sentence about the wind.",
    "List three colours.",
    "Why is the sky blue? Answer in one short paragraph.",
    "Translate to French: good morning.",
    "def add(a, b):",
    "What is 12 times 12?",
    "Say hello to a robot named Ada, who works in a hospital and carries medicine from the pharmacy to the wards.",
)
LENGTHS = (1, 3, 8, 16, 24)

SYSTEM = (
    "You are the voice of a small electric van that delivers parcels in Geneva. Answer in one or two short sentences, "
    "name the street when you know it, never promise a time that you were not given, and say so when you do not know."
)
# About 20 tokens a sentence, no two alike.
STORY = " ".join(
    f"On day {day} the van drove {day * 7 % 90 + 3} kilometres, brought {day * 13 % 50 + 1} parcels to street number "
    f"{day * 31 % 200}, and rested."
    for day in range(1, 80)
)
EDIT = (
    "Repeat this text word for word:\n\n"
    "def total(prices, rate):\n    result = 0\n    for price in prices:\n        result = result + price * rate\n"
    "    return result\n\ndef mean(prices, rate):\n    return total(prices, rate) / len(prices)\n"
)
