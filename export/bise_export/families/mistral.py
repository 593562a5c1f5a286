"""Mistral: Llama with a sliding attention window in its early models, and other defaults."""

from __future__ import annotations

from dataclasses import dataclass

from bise_export.families.config import Config
from bise_export.families.llama import Llama

# transformers' MistralConfig reads a config that does not mention it as Mistral 7B v0.1.
_UNWRITTEN_SLIDING_WINDOW = 4096


@dataclass(frozen=True, slots=True)
class Mistral(Llama):
    """How a Mistral config becomes a `ModelSpec`. Defaults are those of transformers' MistralConfig."""

    name: str = "mistral"
    understood: frozenset[str] = frozenset()
    default_trained_context: int = 131072
    default_kv_heads: int | None = 8

    def _sliding_window(self, config: Config) -> int | None:
        if not config.has("sliding_window"):
            return _UNWRITTEN_SLIDING_WINDOW
        return config.optional_integer("sliding_window")


@dataclass(frozen=True, slots=True)
class Ministral(Mistral):
    """How a Ministral config becomes a `ModelSpec`: Mistral, whose layers may differ in what they see."""

    name: str = "ministral"
    mixed_layers: bool = True
