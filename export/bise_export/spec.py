"""ModelSpec: the few numbers of a model that the graph side ever reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Literal

from bise_export.errors import SourceError, UnsupportedError
from bise_export.rope_scaling import UNSCALED, RopeScaling

_LIMITS = {
    "hidden_size": 1 << 16,
    "intermediate_size": 1 << 18,
    "num_layers": 1 << 10,
    "num_heads": 1 << 10,
    "num_kv_heads": 1 << 10,
    "head_dim": 1 << 10,
    "vocab_size": 1 << 21,
    "trained_context": 1 << 24,
}
_PROJECTIONS = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)
# The kernels rotate 16 channels, 8 pairs, at a time.
_ROTARY_STEP = 16

Activation = Literal["silu", "gelu_tanh"]
NormPlacement = Literal["before", "around"]


@dataclass(frozen=True, slots=True)
class Norms:
    """Where a layer has its norms, by name; None is no norm there.

    Attributes:
        attention_in: before attention.
        attention_out: of what attention adds to the residual.
        mlp_in: before the feed-forward block.
        mlp_out: of what that adds to the residual.
    """

    attention_in: str
    attention_out: str | None
    mlp_in: str
    mlp_out: str | None


_NORMS: Mapping[NormPlacement, Norms] = {
    "before": Norms("input_layernorm", None, "post_attention_layernorm", None),
    "around": Norms(
        "input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"
    ),
}


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A decoder of the Llama shape: RMS norm, rotary embedding (half rotation), grouped-query attention, gated MLP.

    `head_dim * num_heads` need not equal `hidden_size` (Mistral Small 3: 128 * 32 against 5120). What has a default
    here is absent from Llama itself.

    Attributes:
        sliding_window: tokens a query sees, itself included; None is all before it.
        full_attention_layers: layers whose queries see all in spite of `sliding_window`; ascending.
        rotary_dim: the first channels of each head, which rotate; None is all of them.
        rope_scaling: how frequencies differ from those of `rope_theta` alone.
        biased: projections ("self_attn.q_proj", ...) that add a bias.
        activation: of the gate: "silu", or "gelu_tanh" (GELU, approximated by tanh).
        norm_placement: "before" attention and MLP, or "around" each: before it, and of what it adds.
        embedding_scale: what embeddings are multiplied by.
        attention_scale: what scores are multiplied by; None is 1 / sqrt(head_dim).
        attention_softcap: scores become `cap * tanh(score / cap)`; None leaves them.
        logit_softcap: logits likewise.

    Raises:
        SourceError: a value is out of its bounds or contradicts another.
        UnsupportedError: no kernel rotates so many channels.
    """

    family: str
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    trained_context: int
    rms_norm_eps: float
    rope_theta: float
    tied_embeddings: bool
    bos_token_id: int | None
    eos_token_ids: tuple[int, ...]
    sliding_window: int | None = None
    full_attention_layers: tuple[int, ...] = ()
    rotary_dim: int | None = None
    rope_scaling: RopeScaling = UNSCALED
    biased: tuple[str, ...] = ()
    activation: Activation = "silu"
    norm_placement: NormPlacement = "before"
    embedding_scale: float = 1.0
    attention_scale: float | None = None
    attention_softcap: float | None = None
    logit_softcap: float | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            if field.name in _LIMITS:
                checked_size(field.name, getattr(self, field.name))
        if self.num_heads % self.num_kv_heads:
            raise _refused("num_kv_heads", f"a divisor of num_heads {self.num_heads}", self.num_kv_heads)
        if self.head_dim % 8:
            raise _refused("head_dim", "a multiple of 8", self.head_dim)
        if not 0 < self.rms_norm_eps < 1:
            raise _refused("rms_norm_eps", "a number between 0 and 1", self.rms_norm_eps)
        self._check_attention()
        for name in ("embedding_scale", "attention_scale", "attention_softcap", "logit_softcap"):
            value = getattr(self, name)
            if value is not None and not 1e-9 < value < 1e9:
                raise _refused(name, "a positive number", value)
        for name, value, known in (
            ("activation", self.activation, ("silu", "gelu_tanh")),
            ("norm_placement", self.norm_placement, tuple(_NORMS)),
            *(("biased", name, _PROJECTIONS) for name in self.biased),
        ):
            if value not in known:
                raise _refused(name, f"one of {', '.join(known)}", repr(value))
        for token_id in (*self.eos_token_ids, *(() if self.bos_token_id is None else (self.bos_token_id,))):
            if not 0 <= token_id < self.vocab_size:
                raise _refused("special token id", f"0 to {self.vocab_size - 1}", token_id)

    def _check_attention(self) -> None:
        if not 1 <= self.rope_theta < 1e12:
            raise _refused("rope_theta", "1 to 1e12", self.rope_theta)
        if self.sliding_window is not None and self.sliding_window < 1:
            raise _refused("sliding_window", "at least 1 token", self.sliding_window)
        for layer in self.full_attention_layers:
            if not 0 <= layer < self.num_layers:
                raise _refused("full_attention_layers", f"0 to {self.num_layers - 1}", layer)
        if self.rotary_dim is not None and not 1 <= self.rotary_dim <= self.head_dim:
            raise _refused("rotary_dim", f"1 to head_dim {self.head_dim}", self.rotary_dim)
        if self.rotary_size % _ROTARY_STEP:
            raise UnsupportedError(
                f"rotary embedding: expected a multiple of {_ROTARY_STEP} channels of each head, got "
                f"{self.rotary_size}, which no kernel rotates. Export another checkpoint."
            )
        for divisors in (self.rope_scaling.divisors, self.rope_scaling.long_divisors):
            if len(divisors) not in (0, self.rotary_size // 2):
                raise _refused("rope_scaling", f"{self.rotary_size // 2} factors, one a pair", len(divisors))

    @property
    def norms(self) -> Norms:
        """The norms of each layer."""
        return _NORMS[self.norm_placement]

    @property
    def rotary_size(self) -> int:
        """Channels of each head that rotate."""
        return self.head_dim if self.rotary_dim is None else self.rotary_dim

    def window(self, layer: int) -> int | None:
        """Tokens a query of this layer sees; None is all."""
        return None if layer in self.full_attention_layers else self.sliding_window

    def for_context(self, context: int) -> ModelSpec:
        """The spec of a bundle whose rows hold up to `context` tokens: see `RopeScaling.for_context`."""
        return replace(self, rope_scaling=self.rope_scaling.for_context(context))

    @property
    def q_size(self) -> int:
        """Rows of the query projection."""
        return self.num_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Rows of the key projection, and of the value projection."""
        return self.num_kv_heads * self.head_dim

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Every weight the graph needs, by canonical (Hugging Face Llama) name, with its shape [out, in] or [size]."""
        hidden, ffn = self.hidden_size, self.intermediate_size
        shapes: dict[str, tuple[int, ...]] = {
            "model.embed_tokens.weight": (self.vocab_size, hidden),
            "model.norm.weight": (hidden,),
        }
        if not self.tied_embeddings:
            shapes["lm_head.weight"] = (self.vocab_size, hidden)
        norms = self.norms
        layer_shapes: dict[str | None, tuple[int, ...]] = {
            norms.attention_in: (hidden,),
            "self_attn.q_proj": (self.q_size, hidden),
            "self_attn.k_proj": (self.kv_size, hidden),
            "self_attn.v_proj": (self.kv_size, hidden),
            "self_attn.o_proj": (hidden, self.q_size),
            norms.attention_out: (hidden,),
            norms.mlp_in: (hidden,),
            "mlp.gate_proj": (ffn, hidden),
            "mlp.up_proj": (ffn, hidden),
            "mlp.down_proj": (hidden, ffn),
            norms.mlp_out: (hidden,),
        }
        for layer in range(self.num_layers):
            prefix = f"model.layers.{layer}."
            shapes |= {f"{prefix}{name}.weight": shape for name, shape in layer_shapes.items() if name is not None}
            shapes |= {f"{prefix}{name}.bias": layer_shapes[name][:1] for name in self.biased}
        return shapes


def checked_size(name: str, value: int) -> int:
    """`value`, if it is within the bounds of the spec's field `name`; for what is made before there is a spec.

    Raises:
        SourceError: it is not.
    """
    if not 1 <= value <= _LIMITS[name]:
        raise _refused(name, f"1 to {_LIMITS[name]}", value)
    return value


def _refused(name: str, expected: str, got: float | str) -> SourceError:
    return SourceError(f"{name}: expected {expected}, got {got!s:.80}. Get the model's own files again.")
