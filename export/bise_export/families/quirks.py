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
    "use_bidirectional_attention": ((False,), "attention to what comes later"),
    "final_logit_softcapping": ((), "soft-capped logits"),
    "attn_logit_softcapping": ((), "soft-capped attention"),
}


def refuse_quirks(config: Config, understood: frozenset[str] = frozenset()) -> None:
    """Checks that `config` asks for nothing beyond the plain decoder.

    Args:
        understood: keys that its family reads, whatever they say.

    Raises:
        UnsupportedError: it does; the message names the key, its value, and what it means.
    """
    for key, (neutral, meaning) in _NEUTRAL.items():
        value = config.values.get(key)
        if key not in understood and value is not None and value not in neutral:
            raise UnsupportedError(
                f"{key} = {repr(value)[:80]} asks for {meaning}, which bise does not support yet; "
                f"expected {' or '.join(map(repr, neutral)) or 'no such key'}. Export another checkpoint."
            )
