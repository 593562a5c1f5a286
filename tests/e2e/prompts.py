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
