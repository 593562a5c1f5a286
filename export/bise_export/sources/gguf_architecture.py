"""What llama.cpp's architectures are, in bise's words: the family, the names of weights, and how they are stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bise_export.families import phi3
from bise_export.families.storage import LIKE_LLAMA, Storage
from bise_export.sources.names import GGUF

_GEMMA2 = {
    **GGUF,
    "blk.#.post_attention_norm.weight": "model.layers.#.post_attention_layernorm.weight",
    "blk.#.ffn_norm.weight": "model.layers.#.pre_feedforward_layernorm.weight",
    "blk.#.post_ffw_norm.weight": "model.layers.#.post_feedforward_layernorm.weight",
}
_PHI3 = {
    **GGUF,
    "blk.#.attn_qkv.weight": "model.layers.#.self_attn.qkv_proj.weight",
    "blk.#.ffn_up.weight": "model.layers.#.mlp.gate_up_proj.weight",
}


@dataclass(frozen=True, slots=True)
class GgufArchitecture:
    """One architecture.

    Attributes:
        family: the `model_type` of its configs.
        windowed_family: the same where the file has a sliding window.
        names: of its weights, to canonical ones or to those of fused weights.
        storage: how fused weights come apart; gains of norms are whole in every GGUF file.
        interleaved: whether q and k lie there for interleaved rotation.
    """

    family: str
    windowed_family: str
    names: Mapping[str, str]
    storage: Storage = LIKE_LLAMA
    interleaved: bool = False


# llama.cpp converts both Llama and Mistral to "llama".
ARCHITECTURES: Mapping[str, GgufArchitecture] = {
    "llama": GgufArchitecture("llama", "mistral", GGUF, interleaved=True),
    "qwen2": GgufArchitecture("qwen2", "qwen2", GGUF),
    "phi3": GgufArchitecture("phi3", "phi3", _PHI3, Storage(fused=phi3.FUSED)),
    "gemma2": GgufArchitecture("gemma2", "gemma2", _GEMMA2),
}
