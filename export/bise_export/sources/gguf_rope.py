"""Rope scaling that a GGUF file holds as numbers: tensors that divide each frequency, and a factor for all."""

from __future__ import annotations

from bise_export.errors import SourceError
from bise_export.families.config import Config
from bise_export.rope_scaling import RopeScaling
from bise_export.sources.gguf_header import GgufHeader
from bise_export.sources.gguf_weight import gguf_weight

FACTORS, SHORT, LONG = "rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight"
ROPE_TENSORS = frozenset({FACTORS, SHORT, LONG})
_MOST_FACTORS = 1 << 10


def rope_factors(header: GgufHeader, metadata: Config, architecture: str) -> RopeScaling | None:
    """The scaling in tensors (llama3's, or LongRoPE's two sets); None where there is none.

    Raises:
        SourceError: only one of two sets is there, or one is no list of numbers.
        UnsupportedError: they are of an element type that bise does not read.
    """
    if FACTORS in header.tensors:
        return RopeScaling(_numbers(header, FACTORS))
    present = [name for name in (SHORT, LONG) if name in header.tensors]
    if not present:
        return None
    if len(present) == 1:
        raise SourceError(f"expected {SHORT} and {LONG}, got only {present[0]}. Get the file again.")
    trained = metadata.integer(f"{architecture}.context_length")
    return RopeScaling(
        divisors=_numbers(header, SHORT),
        magnitude=metadata.positive(f"{architecture}.rope.scaling.attn_factor", 1.0),
        long_divisors=_numbers(header, LONG),
        short_context=metadata.integer(f"{architecture}.rope.scaling.original_context_length", trained),
    )


def _numbers(header: GgufHeader, name: str) -> tuple[float, ...]:
    tensor = header.tensors[name]
    if len(tensor.shape) != 1 or tensor.shape[0] > _MOST_FACTORS:
        raise SourceError(f"{name}: expected a list of at most {_MOST_FACTORS} numbers, got shape {tensor.shape}.")
    return tuple(gguf_weight(name, tensor).rows(0, tensor.shape[0]).tolist())
