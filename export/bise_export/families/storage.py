"""How a family's own checkpoints hold the weights, where that is not as Llama's do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Storage:
    """Differences from Hugging Face's Llama names and contents.

    Attributes:
        prefixes: beginnings of names, and what stands for them in canonical names; the first that fits counts.
        left_out: beginnings of names that are no part of the decoder, and what they are, for a person.
        fused: canonical names, with `#` for the layer, of weights that lie in one tensor, rows below rows, by its name.
        gain_offset: what is added to norm gains as stored.
    """

    prefixes: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    fused: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    gain_offset: float = 0.0


LIKE_LLAMA = Storage()
