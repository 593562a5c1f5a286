"""HalfRotation against the reordering of the whole array, on any range of rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bise_export.sources.weight import HalfRotation
from golden.checkpoints import interleaved
from golden.in_memory import InMemory


@given(st.data(), st.integers(1, 5), st.sampled_from([2, 8, 16]), st.integers(1, 3))
def test_any_range_of_rows_is_that_of_the_whole(data: st.DataObject, heads: int, head_dim: int, columns: int) -> None:
    canonical = np.arange(heads * head_dim * columns, dtype=np.float32).reshape(-1, columns)
    start = data.draw(st.integers(0, len(canonical)))
    stop = data.draw(st.integers(start, len(canonical)))
    weight = HalfRotation(InMemory(interleaved(canonical, head_dim)), head_dim)
    np.testing.assert_array_equal(weight.rows(start, stop), canonical[start:stop])


def test_the_reordering_turns_interleaved_rotation_into_half_rotation() -> None:
    """The proof by RoPE itself: q·k is the same either way, at any two positions."""
    rng = np.random.default_rng(0)
    q, k = rng.standard_normal((2, 8)).astype(np.float32)  # one head, as stored for interleaved pairs
    angles = rng.standard_normal((2, 4)).astype(np.float32)  # [position, pair]

    def interleaved_rotation(x: np.ndarray, angle: np.ndarray) -> np.ndarray:
        even, odd = x[0::2], x[1::2]
        return np.concatenate([even * np.cos(angle) - odd * np.sin(angle), even * np.sin(angle) + odd * np.cos(angle)])

    def half_rotation(x: np.ndarray, angle: np.ndarray) -> np.ndarray:
        first, second = x[:4], x[4:]
        return np.concatenate(
            [first * np.cos(angle) - second * np.sin(angle), first * np.sin(angle) + second * np.cos(angle)]
        )

    q_half, k_half = (HalfRotation(InMemory(x[:, None]), 8).rows(0, 8)[:, 0] for x in (q, k))
    expected = interleaved_rotation(q, angles[0]) @ interleaved_rotation(k, angles[1])
    assert half_rotation(q_half, angles[0]) @ half_rotation(k_half, angles[1]) == pytest.approx(expected, rel=1e-5)
    assert not np.isclose(half_rotation(q, angles[0]) @ half_rotation(k, angles[1]), expected)
