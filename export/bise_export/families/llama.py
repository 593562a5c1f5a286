"""Llama: the plain decoder, and the base the other families differ from."""

from __future__ import annotations

from dataclasses import dataclass

from bise_export.errors import SourceError, UnsupportedError
from bise_export.families.config import Config
from bise_export.families.quirks import refuse_quirks
from bise_export.families.rope import read_rotary
from bise_export.families.storage import LIKE_LLAMA, Storage
from bise_export.families.windows import full_layers
from bise_export.spec import ModelSpec, checked_size

_ATTENTION_BIASES = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
_MLP_BIASES = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")


@dataclass(frozen=True, slots=True)
class Llama:
    """How a Llama config becomes a `ModelSpec`. Defaults are those of transformers' LlamaConfig.

    Attributes:
        understood: keys that families refuse otherwise, and this one reads.
        partial_rotary: whether a part of each head may stay unrotated.
        mixed_layers: whether some layers may slide and others not.
        default_kv_heads: None is as many as there are heads.
        default_original_context: of scaled rotary embedding; None is the trained context.
    """

    name: str = "llama"
    storage: Storage = LIKE_LLAMA
    understood: frozenset[str] = frozenset({"attention_bias", "mlp_bias"})
    partial_rotary: bool = False
    mixed_layers: bool = False
    default_trained_context: int = 2048
    default_original_context: int | None = None
    default_kv_heads: int | None = None
    default_head_dim: int | None = None
    default_rms_norm_eps: float = 1e-6
    default_tied_embeddings: bool = False
    default_bos: tuple[int, ...] = (1,)
    default_eos: tuple[int, ...] = (2,)

    def build_spec(self, config: Config) -> ModelSpec:
        """The spec of `config` (Hugging Face keys).

        Raises:
            SourceError: a key is missing, of the wrong type, out of bounds, or contradicts another.
            UnsupportedError: the config asks for something bise does not do.
        """
        refuse_quirks(config, self.understood)
        # Lists are made by some of these before the spec checks them all.
        hidden_size = checked_size("hidden_size", config.integer("hidden_size"))
        num_heads = config.integer("num_attention_heads")
        num_layers = checked_size("num_layers", config.integer("num_hidden_layers"))
        head_dim = checked_size("head_dim", self._head_dim(config, hidden_size, num_heads))
        trained_context = checked_size(
            "trained_context", config.integer("max_position_embeddings", self.default_trained_context)
        )
        rotary = read_rotary(config, head_dim, trained_context, self.default_original_context)
        if rotary.dim != head_dim and not self.partial_rotary:
            raise UnsupportedError(
                f"partial_rotary_factor: expected 1, as in all of the family {self.name}, got rotary embedding of "
                f"a part of each head: {rotary.dim} of {head_dim} channels. Export another checkpoint."
            )
        window, full = self._windows(config, num_layers)
        bos_ids = config.token_ids("bos_token_id", self.default_bos)
        return ModelSpec(
            family=self.name,
            hidden_size=hidden_size,
            intermediate_size=config.integer("intermediate_size"),
            num_layers=num_layers,
            num_heads=num_heads,
            num_kv_heads=self._num_kv_heads(config, num_heads),
            head_dim=head_dim,
            vocab_size=config.integer("vocab_size"),
            trained_context=rotary.context,
            rms_norm_eps=config.number("rms_norm_eps", self.default_rms_norm_eps),
            rope_theta=rotary.theta,
            tied_embeddings=config.boolean("tie_word_embeddings", self.default_tied_embeddings),
            bos_token_id=bos_ids[0] if bos_ids else None,
            eos_token_ids=config.token_ids("eos_token_id", self.default_eos),
            sliding_window=window,
            full_attention_layers=full,
            rotary_dim=None if rotary.dim == head_dim else rotary.dim,
            rope_scaling=rotary.scaling,
            biased=self._biased(config),
        )

    def _num_kv_heads(self, config: Config, num_heads: int) -> int:
        unwritten = num_heads if config.has("num_key_value_heads") else self.default_kv_heads or num_heads
        return config.integer("num_key_value_heads", unwritten)

    def _head_dim(self, config: Config, hidden_size: int, num_heads: int) -> int:
        unwritten = None if config.has("head_dim") else self.default_head_dim
        return config.optional_integer("head_dim") or unwritten or _derived_head_dim(hidden_size, num_heads)

    def _windows(self, config: Config, num_layers: int) -> tuple[int | None, tuple[int, ...]]:
        """The sliding window, and the layers that see everything in spite of it."""
        window = self._sliding_window(config)
        unwritten = self._unwritten_full_layers(config, num_layers) if window is not None else tuple(range(num_layers))
        full = full_layers(config, num_layers, unwritten)
        if len(full) == num_layers:
            return None, ()
        if window is None:
            raise config.wrong("sliding_window", "a number of tokens, as layer_types names sliding_attention")
        if full and not self.mixed_layers:
            raise UnsupportedError(
                f"layer_types = {config.values['layer_types']!r:.80} asks for attention that differs by layer; "
                f"expected one kind for all, as in all of the family {self.name}. Export another checkpoint."
            )
        return window, full

    def _sliding_window(self, config: Config) -> int | None:  # noqa: ARG002 - Llama has none
        return None

    def _unwritten_full_layers(self, config: Config, num_layers: int) -> tuple[int, ...]:  # noqa: ARG002 - see Qwen2
        return ()

    def _biased(self, config: Config) -> tuple[str, ...]:
        attention = _ATTENTION_BIASES if config.boolean("attention_bias", False) else ()
        return attention + (_MLP_BIASES if config.boolean("mlp_bias", False) else ())


def _derived_head_dim(hidden_size: int, num_heads: int) -> int:
    if num_heads < 1 or hidden_size % num_heads:
        raise SourceError(
            "head_dim: expected it written, or hidden_size a multiple of num_attention_heads; "
            f"got {hidden_size} and {num_heads}. Get the checkpoint's own file again."
        )
    return hidden_size // num_heads
