"""Rotary position embedding as the two tables GroupQueryAttention reads."""

from __future__ import annotations

import numpy as np

from bise_export.sources.weight import Float32
from bise_export.spec import ModelSpec


def tables(spec: ModelSpec, positions: int) -> tuple[Float32, Float32]:
    """cos and sin of every position, float32 [positions, head_dim / 2].

    Angles are taken in float64: at position 100,000 a float32 angle is off by up to 0.004 rad.
    Source: Su et al., RoFormer (2021), eq. 15.
    """
    inverse_frequency = spec.rope_theta ** -(np.arange(0, spec.head_dim, 2, dtype=np.float64) / spec.head_dim)
    angles = np.outer(np.arange(positions, dtype=np.float64), inverse_frequency)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
