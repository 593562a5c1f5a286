"""Gemma 2: Llama with norms around each block, soft caps, scaled embeddings, and a window in every other layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from bise_export.errors import UnsupportedError
from bise_export.families.config import Config
from bise_export.families.llama import Llama
from bise_export.families.storage import Storage
from bise_export.spec import Activation, ModelSpec

_UNWRITTEN_SLIDING_WINDOW = 4096
_UNWRITTEN_QUERY_SCALAR = 256.0
_UNWRITTEN_ATTENTION_SOFTCAP = 50.0
_UNWRITTEN_LOGIT_SOFTCAP = 30.0
_UNWRITTEN_ACTIVATION = "gelu_pytorch_tanh"
_ACTIVATIONS: Mapping[str, Activation] = {"gelu_pytorch_tanh": "gelu_tanh", "silu": "silu"}


@dataclass(frozen=True, slots=True)
class Gemma2(Llama):
    """How a Gemma 2 config becomes a `ModelSpec`. Defaults are those of transformers' Gemma2Config.

    Gains of norms are stored less 1: `x * (1 + weight)`.
    """

    name: str = "gemma2"
    storage: Storage = Storage(gain_offset=1.0)  # noqa: RUF009 - frozen
    # hidden_act is left over from Gemma 1: transformers reads hidden_activation.
    understood: frozenset[str] = frozenset(
        {"attn_logit_softcapping", "final_logit_softcapping", "hidden_act", "attention_bias"}
    )
    mixed_layers: bool = True
    default_trained_context: int = 8192
    default_kv_heads: int | None = 4
    default_head_dim: int | None = 256
    default_tied_embeddings: bool = True
    default_bos: tuple[int, ...] = (2,)
    default_eos: tuple[int, ...] = (1,)

    def build_spec(self, config: Config) -> ModelSpec:
        """The spec of `config`; see `Llama.build_spec`."""
        plain = Llama.build_spec(self, config)
        return replace(
            plain,
            activation=_activation(config),
            norm_placement="around",
            embedding_scale=plain.hidden_size**0.5,
            attention_scale=config.positive("query_pre_attn_scalar", _UNWRITTEN_QUERY_SCALAR) ** -0.5,
            attention_softcap=_cap(config, "attn_logit_softcapping", _UNWRITTEN_ATTENTION_SOFTCAP),
            logit_softcap=_cap(config, "final_logit_softcapping", _UNWRITTEN_LOGIT_SOFTCAP),
        )

    def _sliding_window(self, config: Config) -> int | None:
        if not config.has("sliding_window"):
            return _UNWRITTEN_SLIDING_WINDOW
        return config.optional_integer("sliding_window")

    def _unwritten_full_layers(self, config: Config, num_layers: int) -> tuple[int, ...]:  # noqa: ARG002 - no key
        return tuple(range(1, num_layers, 2))


def _cap(config: Config, key: str, unwritten: float) -> float | None:
    """The cap at `key`; written as null it is none."""
    if config.has(key) and config.values[key] is None:
        return None
    return config.positive(key, unwritten)


def _activation(config: Config) -> Activation:
    name = config.text("hidden_activation", _UNWRITTEN_ACTIVATION)
    if name not in _ACTIVATIONS:
        raise UnsupportedError(
            f"hidden_activation = {name!r:.80}: expected {' or '.join(_ACTIVATIONS)}. Export another checkpoint."
        )
    return _ACTIVATIONS[name]
