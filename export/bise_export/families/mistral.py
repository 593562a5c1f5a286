"""Mistral: Llama with a sliding attention window in its early models, and other defaults."""

from __future__ import annotations

from dataclasses import dataclass

from bise_export.families.config import Config
from bise_export.families.llama import Llama

# transformers' MistralConfig reads a config that does not mention these as Mistral 7B v0.1.
_UNWRITTEN_SLIDING_WINDOW = 4096
_UNWRITTEN_KV_HEADS = 8


@dataclass(frozen=True, slots=True)
class Mistral(Llama):
    """How a Mistral config becomes a `ModelSpec`. Defaults are those of transformers' MistralConfig."""

    name: str = "mistral"
    default_trained_context: int = 131072

    def _num_kv_heads(self, config: Config, num_heads: int) -> int:
        unwritten = num_heads if config.has("num_key_value_heads") else _UNWRITTEN_KV_HEADS
        return config.integer("num_key_value_heads", unwritten)

    def _sliding_window(self, config: Config) -> int | None:
        if not config.has("sliding_window"):
            return _UNWRITTEN_SLIDING_WINDOW
        return config.optional_integer("sliding_window")
