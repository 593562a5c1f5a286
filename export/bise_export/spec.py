"""ModelSpec: the few numbers of a model that the graph side ever reads."""

from __future__ import annotations

from dataclasses import dataclass, fields

from bise_export.errors import SourceError

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


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A decoder of the Llama shape: RMS norm, rotary embedding (half rotation), grouped-query attention, SwiGLU.

    `head_dim * num_heads` need not equal `hidden_size` (Mistral Small 3: 128 * 32 against 5120).

    Raises:
        SourceError: a value is out of its bounds or contradicts another.
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

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if (limit := _LIMITS.get(field.name)) is not None and not 1 <= value <= limit:
                raise _refused(field.name, f"1 to {limit}", value)
        if self.num_heads % self.num_kv_heads:
            raise _refused("num_kv_heads", f"a divisor of num_heads {self.num_heads}", self.num_kv_heads)
        if self.head_dim % 8:
            raise _refused("head_dim", "a multiple of 8", self.head_dim)
        if not 0 < self.rms_norm_eps < 1:
            raise _refused("rms_norm_eps", "a number between 0 and 1", self.rms_norm_eps)
        if not 1 <= self.rope_theta < 1e12:
            raise _refused("rope_theta", "1 to 1e12", self.rope_theta)
        if self.sliding_window is not None and self.sliding_window < 1:
            raise _refused("sliding_window", "at least 1 token", self.sliding_window)
        for token_id in (*self.eos_token_ids, *(() if self.bos_token_id is None else (self.bos_token_id,))):
            if not 0 <= token_id < self.vocab_size:
                raise _refused("special token id", f"0 to {self.vocab_size - 1}", token_id)

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
        for layer in range(self.num_layers):
            shapes |= {
                f"model.layers.{layer}.{name}.weight": shape
                for name, shape in {
                    "input_layernorm": (hidden,),
                    "self_attn.q_proj": (self.q_size, hidden),
                    "self_attn.k_proj": (self.kv_size, hidden),
                    "self_attn.v_proj": (self.kv_size, hidden),
                    "self_attn.o_proj": (hidden, self.q_size),
                    "post_attention_layernorm": (hidden,),
                    "mlp.gate_proj": (ffn, hidden),
                    "mlp.up_proj": (ffn, hidden),
                    "mlp.down_proj": (hidden, ffn),
                }.items()
            }
        return shapes


def _refused(name: str, expected: str, got: float) -> SourceError:
    return SourceError(f"{name}: expected {expected}, got {got}. Get the model's own files again.")
