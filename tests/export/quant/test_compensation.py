"""Compensated rounding: its factors are of what was seen, it costs less, and nothing odd disturbs it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bise_export.errors import ExportError
from bise_export.quant import compensation
from bise_export.quant.blocks import quantize
from bise_export.quant.compensation import compensated, curvature
from bise_export.quant.formats import Blocks

HALF = np.dtype(np.float16)


def inputs(tokens, columns, seed=0):
    """Inputs whose channels go together: few sources, mixed, of very different sizes."""
    rng = np.random.default_rng(seed)
    mixed = rng.standard_normal((tokens, columns // 4 + 1)) @ rng.standard_normal((columns // 4 + 1, columns))
    return (mixed * np.exp(rng.standard_normal(columns))).astype(np.float32)


def weights(rows, columns, seed=1):
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)


def restored(matrix, bits, found, **options):
    integers, scales, zero_points = compensated(matrix, bits, found, **options)
    block_size = found.block_size
    assert integers.shape == (len(matrix), -(-matrix.shape[1] // block_size), block_size)
    assert integers.max(initial=0) < 1 << bits
    assert zero_points.max(initial=0) < 1 << bits
    assert np.isfinite(scales).all()
    values = (integers.astype(np.float32) - zero_points[..., None]) * scales[..., None]
    return values.reshape(len(matrix), -1)[:, : matrix.shape[1]]


def output_error(matrix, values, x):
    """Mean square of what the outputs are off by."""
    return np.square(x @ (values - matrix).T, dtype=np.float64).mean()


@pytest.mark.slow
@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize("block_size", [16, 32, 128])
def test_outputs_are_nearer_than_by_rounding_to_the_nearest(bits, block_size):
    matrix, x = weights(24, 256), inputs(600, 256)
    found = curvature(x[:400], block_size)
    nearest = Blocks(bits, block_size, HALF).rounded(matrix, found.importance)

    for sample in (x[:400], x[400:]):
        error = output_error(matrix, restored(matrix, bits, found), sample)
        assert error < 0.8 * output_error(matrix, nearest, sample)


@pytest.mark.slow
def test_symmetric_blocks_keep_their_zero_in_the_middle_and_gain_too():
    matrix, x = weights(24, 256), inputs(600, 256)
    found = curvature(x, 32)

    assert (compensated(matrix, 4, found, symmetric=True)[2] == 8).all()
    nearest = Blocks(4, 32, HALF, symmetric=True).rounded(matrix, found.importance)
    error = output_error(matrix, restored(matrix, 4, found, symmetric=True), x)
    assert error < 0.8 * output_error(matrix, nearest, x)


def trusted_curvature(x):
    """H, of which the factors are."""
    seen = x.T.astype(np.float64) @ x / len(x)
    return np.where(np.eye(x.shape[1], dtype=bool), seen, float(compensation._TRUSTED) * seen)


def test_factors_give_back_the_curvature_with_its_correlations_shrunk():
    x = inputs(50, 40)
    found = curvature(x, 16)
    (window,), wanted = found.windows, trusted_curvature(x)

    def agree(factor, costs, own):
        np.testing.assert_array_equal(np.tril(factor, -1), 0)
        np.testing.assert_allclose(factor @ np.diag(costs) @ factor.T, own, rtol=1e-3, atol=1e-4 * np.abs(own).max())

    costs = np.diag(np.linalg.inv(window.factor) @ wanted @ np.linalg.inv(window.factor).T)
    agree(window.factor.astype(np.float64), costs, wanted)
    for start, factor, own_costs in zip((0, 16, 32), window.inner, window.inner_costs, strict=True):
        agree(factor, own_costs, wanted[start : start + 16, start : start + 16])
        # With these errors the block's part of the gradient is zero.
        others = np.delete(np.arange(40), np.s_[start : start + 16])
        rest = wanted[start : start + 16, others] @ np.diag(1 / np.sqrt(np.diag(wanted)[others]))
        own = wanted[start : start + 16, start : start + 16] @ window.coupling[start : start + 16, others]
        own = own @ np.diag(1 / np.sqrt(np.diag(wanted)[others]))
        np.testing.assert_allclose(own, rest, atol=1e-3 * np.abs(rest).max())
    np.testing.assert_allclose(found.importance, np.diag(wanted), rtol=1e-5)


@pytest.mark.slow
@given(st.integers(0, 99), st.sampled_from([2, 4]))
def test_the_second_look_takes_nothing_back(seed, bits):
    matrix, x = weights(3, 80, seed), inputs(30, 80, seed)
    found, wanted = curvature(x, 32), trusted_curvature(x)
    # A second look that sees no costs finds nothing better.
    blind = tuple(replace(each, inner_costs=tuple(map(np.zeros_like, each.inner_costs))) for each in found.windows)

    once = restored(matrix, bits, replace(found, windows=blind)) - matrix
    twice = restored(matrix, bits, found) - matrix

    before, after = (np.einsum("rc,cd,rd->r", each, wanted, each) for each in (once, twice))
    assert (after <= before * (1 + 1e-3)).all()


@pytest.mark.parametrize("bits", [2, 4])
def test_channels_that_never_go_together_are_as_near_as_the_nearest(bits):
    x = np.diag(np.linspace(0.1, 3, 96)).astype(np.float32)  # a token a channel
    matrix = weights(5, 96)
    found = curvature(x, 32)

    values = restored(matrix, bits, found)

    integers, scales, zero_points = quantize(
        matrix, bits, 32, found.importance, zero_points_between=compensation._ZERO_POINTS_BETWEEN
    )
    plain = ((integers.astype(np.float32) - zero_points[..., None]) * scales[..., None]).reshape(5, 96)
    # Integers are of another scale than the one fitted to them; here they are chosen again.
    errors = np.square(values - matrix) @ found.importance
    assert (errors <= np.square(plain - matrix) @ found.importance * (1 + 1e-5)).all()
    np.testing.assert_allclose(values, plain, atol=1.01 * scales.max())
    assert np.isclose(values, plain).mean() > 0.9


@pytest.mark.slow
@given(st.integers(1, 4), st.integers(1, 70), st.integers(1, 5), st.sampled_from([16, 32, 64]), st.sampled_from([2, 4]))
def test_any_shape_and_any_number_of_tokens_gives_integers_of_the_grid(rows, columns, tokens, block_size, bits):
    values = restored(weights(rows, columns), bits, curvature(inputs(tokens, columns), block_size))

    assert np.isfinite(values).all()


def test_dead_channels_disturb_nobody():
    matrix, x = weights(8, 64), inputs(200, 64)
    x[:, 5::7] = 0
    found = curvature(x, 32)

    assert all(np.isfinite(each).all() for window in found.windows for each in (window.factor, window.coupling))
    alive = np.flatnonzero(found.importance)
    nearest = Blocks(4, 32, HALF).rounded(matrix, found.importance)
    assert len(alive) < 64
    assert output_error(matrix, restored(matrix, 4, found), x) < output_error(matrix, nearest, x)
    assert output_error(np.zeros_like(matrix), restored(np.zeros_like(matrix), 4, found), x) == 0


def test_inputs_of_nothing_but_zeros_are_rounded_to_the_nearest():
    matrix = weights(4, 64)

    values = restored(matrix, 4, curvature(np.zeros((3, 64), np.float32), 32))

    assert np.square(values - matrix).mean() < 0.01


@pytest.mark.slow
def test_columns_make_up_for_each_other_within_a_window(monkeypatch):
    monkeypatch.setattr(compensation, "_WINDOW_COLUMNS", 128)
    matrix, x = weights(8, 300), inputs(400, 300)
    found = curvature(x, 32)

    whole = restored(matrix, 4, found)

    assert [len(each.factor) for each in found.windows] == [128, 128, 44]
    for first in (0, 128, 256):
        part = slice(first, first + 128)
        np.testing.assert_array_equal(whole[:, part], restored(matrix[:, part], 4, curvature(x[:, part], 32)))


def test_inputs_that_are_not_finite_are_refused():
    x = inputs(4, 32)
    x[2, 3] = np.inf

    with pytest.raises(ExportError, match=r"finite inputs .* --rounding nearest"):
        curvature(x, 32)
