"""Rotary position embedding as the two tables GroupQueryAttention reads."""

from __future__ import annotations

import numpy as np

from bise_export.sources.weight import Float32
from bise_export.spec import ModelSpec


def tables(spec: ModelSpec, positions: int) -> tuple[Float32, Float32]:
    """cos and sin of every position, float32 [positions, rotary_size / 2], of a row that holds so many tokens.

    Angles are taken in float64: at position 100,000 a float32 angle is off by up to 0.004 rad.
    Source: Su et al., RoFormer (2021), eq. 15.
    """
    scaling = spec.rope_scaling.for_context(positions)
    inverse_frequency = spec.rope_theta ** -(np.arange(0, spec.rotary_size, 2, dtype=np.float64) / spec.rotary_size)
    if scaling.divisors:
        inverse_frequency /= np.array(scaling.divisors)
    angles = np.outer(np.arange(positions, dtype=np.float64), inverse_frequency)
    return (
        (np.cos(angles) * scaling.magnitude).astype(np.float32),
        (np.sin(angles) * scaling.magnitude).astype(np.float32),
    )
