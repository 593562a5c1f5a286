"""How keys and values are cached: as floats, or as int8 with a scale per channel."""

from __future__ import annotations

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


Cache = FloatCache | Int8Cache
