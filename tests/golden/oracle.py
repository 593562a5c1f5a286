"""onnxruntime-genai, an engine of other authors, as an oracle of greedy tokens."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import onnxruntime_genai


def config(folder: Path) -> onnxruntime_genai.Config:
    """The configuration in `folder`, but with another end: it needs one, and no real answer has this token."""
    found = onnxruntime_genai.Config(str(folder))
    found.overlay(json.dumps({"model": {"eos_token_id": end(folder)}}))
    return found


def end(folder: Path) -> int:
    """The one token that ends an answer here: the vocabulary's last."""
    size: int = json.loads((folder / "genai_config.json").read_text(encoding="utf-8"))["model"]["vocab_size"]
    return size - 1


def greedy(folder: Path, prompts: Sequence[Sequence[int]], tokens: int) -> list[list[int]]:
    """The most likely `tokens` after each prompt; fewer, where one of them is `end`."""
    model = onnxruntime_genai.Model(config(folder))
    found = []
    for prompt in prompts:
        options = onnxruntime_genai.GeneratorParams(model)
        options.set_search_options(max_length=len(prompt) + tokens)
        generator = onnxruntime_genai.Generator(model, options)
        generator.append_tokens(prompt)
        while not generator.is_done():
            generator.generate_next_token()
        found.append([int(token) for token in generator.get_sequence(0)[len(prompt) :]])
    return found
