"""Qwen 2 and 2.5: Llama with biases in q, k and v, and a window that is off unless asked for."""

from __future__ import annotations

from dataclasses import dataclass

from bise_export.families.config import Config
from bise_export.families.llama import Llama

_UNWRITTEN_SLIDING_WINDOW = 4096
_UNWRITTEN_MAX_WINDOW_LAYERS = 28


@dataclass(frozen=True, slots=True)
class Qwen2(Llama):
    """How a Qwen 2 config becomes a `ModelSpec`. Defaults are those of transformers' Qwen2Config."""

    name: str = "qwen2"
    understood: frozenset[str] = frozenset()
    mixed_layers: bool = True
    default_trained_context: int = 32768
    default_kv_heads: int | None = 32
    default_bos: tuple[int, ...] = ()
    default_eos: tuple[int, ...] = ()

    def _sliding_window(self, config: Config) -> int | None:
        if not config.boolean("use_sliding_window", False):
            return None
        return config.integer("sliding_window", _UNWRITTEN_SLIDING_WINDOW)

    def _unwritten_full_layers(self, config: Config, num_layers: int) -> tuple[int, ...]:
        return tuple(range(min(num_layers, config.integer("max_window_layers", _UNWRITTEN_MAX_WINDOW_LAYERS))))

    def _biased(self, config: Config) -> tuple[str, ...]:  # noqa: ARG002 - always these
        return ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
