"""Phi-3 and Phi-4: Llama with q, k, v in one weight, gate and up in another, and LongRoPE on a part of each head."""

from __future__ import annotations

from dataclasses import dataclass

from bise_export.families.config import Config
from bise_export.families.llama import Llama
from bise_export.families.storage import Storage

FUSED = {
    "model.layers.#.self_attn.qkv_proj.weight": (
        "model.layers.#.self_attn.q_proj.weight",
        "model.layers.#.self_attn.k_proj.weight",
        "model.layers.#.self_attn.v_proj.weight",
    ),
    "model.layers.#.mlp.gate_up_proj.weight": (
        "model.layers.#.mlp.gate_proj.weight",
        "model.layers.#.mlp.up_proj.weight",
    ),
}


@dataclass(frozen=True, slots=True)
class Phi3(Llama):
    """How a Phi-3 or Phi-4 config becomes a `ModelSpec`. Defaults are those of transformers' Phi3Config."""

    name: str = "phi3"
    storage: Storage = Storage(fused=FUSED)  # noqa: RUF009 - frozen
    understood: frozenset[str] = frozenset()
    partial_rotary: bool = True
    default_trained_context: int = 4096
    default_original_context: int | None = 4096
    default_rms_norm_eps: float = 1e-5
    default_eos: tuple[int, ...] = (32000,)

    def _sliding_window(self, config: Config) -> int | None:
        return config.optional_integer("sliding_window")
