"""How keys and values are cached: as floats, or as int8 with a scale per channel."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bise_export.sources.weight import Float32

KvPrecision = Literal["int8", "fp16", "fp32"]


@dataclass(frozen=True, slots=True)
class LayerScales:
    """A layer's int8 scales, float32 [1, kv_heads, 1, head_dim] each: `value = integer * scale`."""

    key: Float32
    value: Float32


@dataclass(frozen=True, slots=True)
class FloatCache:
    """Keys and values as they are."""

    dtype: np.dtype[np.floating]


@dataclass(frozen=True, slots=True)
class Int8Cache:
    """Keys and values as int8, with scales calibrated per layer."""

    scales: Sequence[LayerScales]

    @property
    def dtype(self) -> np.dtype[np.int8]:
        """The element type of the cache."""
        return np.dtype(np.int8)


def scales_text(scales: Sequence[LayerScales]) -> str:
    """The scales of all layers as text, for a journal; nothing is lost."""
    values = np.stack([np.stack([each.key, each.value]) for each in scales])
    return b64encode(values.astype("<f4").tobytes()).decode("ascii")


def scales_from_text(text: str, layers: int, kv_heads: int, head_dim: int) -> tuple[LayerScales, ...]:
    """The inverse of `scales_text`.

    Raises:
        ValueError: the text is not of so many layers, heads and channels.
    """
    values = np.frombuffer(b64decode(text, validate=True), "<f4").astype(np.float32)
    return tuple(
        LayerScales(key=key, value=value) for key, value in values.reshape(layers, 2, 1, kv_heads, 1, head_dim)
    )


Cache = FloatCache | Int8Cache
