"""The names of the graph's inputs and outputs: the contract between a bundle and whoever runs it."""

from __future__ import annotations

INPUT_IDS = "input_ids"
SEQLENS_K = "seqlens_k"
TOTAL_SEQUENCE_LENGTH = "total_sequence_length"
LOGITS_POSITIONS = "logits_positions"
# Only of graphs where prompts attend in a way of their own: how many of the new tokens are a prompt's (the first ones),
# and how many of its tokens its slot holds with them.
PROMPT_TOKENS = "prompt_tokens"
PROMPT_TOTAL = "prompt_total"
LOGITS = "logits"

# Hugging Face's names of what bise computes from lengths: other exporters' graphs and engines go by them.
ATTENTION_MASK = "attention_mask"
POSITION_IDS = "position_ids"


def past(layer: int | str, part: str) -> str:
    """The input that holds a layer's cached "key" or "value"."""
    return f"past_key_values.{layer}.{part}"


def prompt_past(layer: int | str, part: str) -> str:
    """As `past`, of the prompt's slot; only where prompts attend in a way of their own."""
    return f"prompt_key_values.{layer}.{part}"


def prompt_present(layer: int | str, part: str) -> str:
    """As `present`, of the prompt's slot."""
    return f"prompt_present.{layer}.{part}"


def present(layer: int | str, part: str) -> str:
    """The output that holds them after the step; bound to the same buffer as `past`."""
    return f"present.{layer}.{part}"
