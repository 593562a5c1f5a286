"""What a checkpoint may ask for that bise does not do; each is refused by name, never ignored."""

from __future__ import annotations

from collections.abc import Mapping

from bise_export.errors import UnsupportedError
from bise_export.families.config import Config

# Key to (values that ask for nothing, what any other value means). Absent and null always ask for nothing.
_NEUTRAL: Mapping[str, tuple[tuple[object, ...], str]] = {
    "attention_bias": ((False,), "biases in the attention projections"),
    "mlp_bias": ((False,), "biases in the MLP"),
    "hidden_act": (("silu", "swish"), "an activation other than SiLU"),
    "quantization_config": ((), "weights that are already quantized (export the original float checkpoint)"),
    "num_local_experts": ((0,), "a mixture of experts"),
    "num_experts": ((0,), "a mixture of experts"),
    "moe": ((), "a mixture of experts"),
    "vision_config": ((), "image input"),
    "audio_config": ((), "audio input"),
    "layer_types": ((), "attention that differs by layer"),
    "partial_rotary_factor": ((1, 1.0), "rotary embedding of a part of each head"),
    "final_logit_softcapping": ((), "soft-capped logits"),
    "attn_logit_softcapping": ((), "soft-capped attention"),
}
# transformers 5 writes rope_parameters, earlier versions rope_scaling.
_ROPE_SECTIONS = ("rope_parameters", "rope_scaling")
_PLAIN_ROPE = ("default", "none")


def refuse_quirks(config: Config) -> None:
    """Checks that `config` asks for nothing beyond the plain decoder of `ModelSpec`.

    Raises:
        UnsupportedError: it does; the message names the key, its value, and what it means.
        SourceError: a rope section is no object.
    """
    for key, (neutral, meaning) in _NEUTRAL.items():
        value = config.values.get(key)
        if value is not None and value not in neutral:
            raise UnsupportedError(
                f"{key} = {repr(value)[:80]} asks for {meaning}, which bise does not support yet; "
                f"expected {' or '.join(map(repr, neutral)) or 'no such key'}. Export another checkpoint."
            )
    for section in _ROPE_SECTIONS:
        _refuse_rope_scaling(config.section(section), section)


def _refuse_rope_scaling(rope: Config, section: str) -> None:
    kind = rope.values.get("rope_type", rope.values.get("type", "default"))
    if kind not in _PLAIN_ROPE:
        raise UnsupportedError(
            f"{section} asks for rope scaling {kind!r:.80}, which bise does not support yet; "
            "expected 'default'. Export a checkpoint with unscaled rotary embedding."
        )
    factor = rope.values.get("partial_rotary_factor", 1)
    if factor != 1:
        raise UnsupportedError(
            f"{section}: partial_rotary_factor = {factor!r:.80} asks for rotary embedding of a part of "
            "each head, which bise does not support yet; expected 1. Export another checkpoint."
        )
    if nested := [key for key, value in rope.values.items() if isinstance(value, dict)]:
        raise UnsupportedError(
            f"{section}: {nested[0]!r:.80} asks for rotary embedding that differs by layer, which bise "
            "does not support yet; expected one set of parameters. Export another checkpoint."
        )
