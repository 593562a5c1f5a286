"""The names of the graph's inputs and outputs: the contract between a bundle and whoever runs it."""

from __future__ import annotations

INPUT_IDS = "input_ids"
SEQLENS_K = "seqlens_k"
TOTAL_SEQUENCE_LENGTH = "total_sequence_length"
LOGITS_POSITIONS = "logits_positions"
# Only of graphs with two ways to attend: whether the new tokens are a prompt's.
IS_PROMPT = "is_prompt"
LOGITS = "logits"

# Hugging Face's names of what bise computes from lengths: other exporters' graphs and engines go by them.
ATTENTION_MASK = "attention_mask"
POSITION_IDS = "position_ids"


def past(layer: int | str, part: str) -> str:
    """The input that holds a layer's cached "key" or "value"."""
    return f"past_key_values.{layer}.{part}"


def present(layer: int | str, part: str) -> str:
    """The output that holds them after the step; bound to the same buffer as `past`."""
    return f"present.{layer}.{part}"
