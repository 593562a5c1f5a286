"""Records SmolLM2's greedy answers as transformers computes them in float32 (tests/golden/greedy.json).

Needs the `reference` extra and `accelerate`. Run from the root: `python tests/golden/make_greedy.py`. It reads
the same GGUF file (weights, tokenizer, chat template) with code of its own.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from e2e.prompts import QUESTIONS  # noqa: E402

MODELS = ROOT / ".cache" / "models"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
MAX_TOKENS = 64
PROMPTS = 5


@torch.no_grad()
def greedy(model: torch.nn.Module, prompt: torch.Tensor) -> list[int]:
    """The most likely tokens; a plain loop, since `generate` also applies what the generation config says."""
    found: list[int] = []
    step, cache = prompt, None
    while len(found) < MAX_TOKENS:
        output = model(step, past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        step = output.logits[:, -1:].argmax(-1)
        found.append(int(step))
    return found


def main() -> None:
    """Loads, asks, writes."""
    tokenizer = AutoTokenizer.from_pretrained(MODELS, gguf_file=FILE)
    model = AutoModelForCausalLM.from_pretrained(MODELS, gguf_file=FILE, dtype=torch.float32).eval()
    cases = []
    for question in QUESTIONS[:PROMPTS]:
        messages = [{"role": "user", "content": question}]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        prompt = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
        answer = greedy(model, prompt)
        cases.append({"question": question, "prompt": prompt[0].tolist(), "token_ids": answer})
    text = json.dumps({"max_tokens": MAX_TOKENS, "cases": cases}, indent=None, separators=(",", ":"))
    Path(__file__).with_name("greedy.json").write_text(
        text.replace('{"question', '\n{"question') + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
