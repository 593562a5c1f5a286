"""The block quantizer: bounds that hold for any matrix, grids it must give back exactly, magnitudes at the edge."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from bise_export.quant.blocks import quantize

BLOCK_SIZES = (16, 32, 64, 128)
FLOATS = st.floats(-100, 100, width=32)
# One unit of the least significant place of a float32, relative.
ROUNDING = 2.0**-23
SMALLEST = float(np.finfo(np.float32).smallest_subnormal)


@st.composite
def matrices(draw, elements=FLOATS):
    """A matrix whose columns need not be a multiple of the block size, and the block size."""
    block_size = draw(st.sampled_from(BLOCK_SIZES))
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 2 * block_size + 1)))
    return draw(arrays.arrays(np.float32, shape, elements=elements)), block_size


def restored(matrix, bits, block_size):
    """What is read back, in float64, and the scales."""
    integers, scales, zero_points = quantize(matrix, bits, block_size)
    assert integers.max(initial=0) < 1 << bits
    assert zero_points.max(initial=0) < 1 << bits
    assert np.isfinite(scales).all()
    assert (scales >= 0).all()
    values = (integers.astype(np.float64) - zero_points[..., None]) * scales[..., None]
    return values.reshape(len(matrix), -1)[:, : matrix.shape[1]], scales


def blocks_of(matrix, block_size):
    """The matrix in float64, filled up with zeros: [blocks, block_size]."""
    missing = -matrix.shape[1] % block_size
    return np.pad(matrix.astype(np.float64), ((0, 0), (0, missing))).reshape(-1, block_size)


def plain_error(block, bits):
    """Squared error of rounding to the nearest of a symmetric grid over the largest magnitude, in float64."""
    half = 1 << (bits - 1)
    longer, shorter = (half, half - 1) if bits < 8 else (half - 1, half - 1)
    sign = 1 if block.max() > -block.min() else -1
    scale = np.abs(block).max() / longer
    levels = np.clip(np.rint(sign * block / (scale or 1)), -shorter, longer)
    return np.square(sign * levels * scale - block).sum()


@pytest.mark.parametrize("bits", [2, 4, 8])
@given(matrices())
def test_the_error_of_a_block_stays_under_half_a_step_an_element(bits, case):
    matrix, block_size = case
    values, _ = restored(matrix, bits, block_size)

    found = blocks_of(values, block_size) - blocks_of(matrix, block_size)
    blocks = blocks_of(matrix, block_size)
    span = blocks.max(1, initial=0) - blocks.min(1, initial=0)
    # The best squared error is at most that of plain rounding, half a step for each element.
    step = np.maximum(span, 1e-30) / ((1 << bits) - 1) * 2
    assert (np.square(found).sum(1) <= block_size * np.square(step / 2) * 1.01 + 1e-30).all()


@pytest.mark.parametrize("bits", [2, 4, 8])
@given(matrices())
def test_no_block_is_worse_than_plain_rounding(bits, case):
    matrix, block_size = case
    values, _ = restored(matrix, bits, block_size)

    blocks = blocks_of(matrix, block_size)
    error = np.square(blocks_of(values, block_size) - blocks).sum(1)
    plain = np.array([plain_error(block, bits) for block in blocks])
    energy = np.square(blocks).sum(1)
    assert (error <= plain * (1 + 1e-4) + 4e-6 * energy + SMALLEST).all()


@pytest.mark.parametrize(("bits", "kind"), [(4, GGMLQuantizationType.Q4_0), (8, GGMLQuantizationType.Q8_0)])
@given(seed=st.integers(0, 1 << 32), power=st.integers(-8, 8), zeros=st.floats(0, 1))
def test_a_block_of_the_same_grid_comes_back_unchanged(bits, kind, seed, power, zeros):
    rng = np.random.default_rng(seed)
    matrix = np.ldexp(rng.standard_normal((8, 96)) * (rng.random((8, 96)) >= zeros), power).astype(np.float32)
    stored = gguf.dequantize(gguf.quantize(matrix, kind), kind)

    values, _ = restored(stored, bits, 32)

    np.testing.assert_array_equal(values.astype(np.float32), stored)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_zeros_come_back_as_zeros(bits):
    matrix = np.zeros((2, 80), np.float32)
    matrix[1, 40:] = 1.5  # beside blocks that hold something

    values, _ = restored(matrix, bits, 32)

    np.testing.assert_array_equal(values[matrix == 0], 0)
    np.testing.assert_allclose(values, matrix, rtol=ROUNDING)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("block_size", BLOCK_SIZES)
@given(constant=st.floats(-(2.0**99), 2.0**99, width=32))
def test_a_constant_block_comes_back_as_it_was(bits, block_size, constant):
    values, _ = restored(np.full((1, block_size), constant, np.float32), bits, block_size)

    np.testing.assert_allclose(values, constant, rtol=2 * ROUNDING, atol=300 * SMALLEST)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("power", [-149, -140, -126, -110, -100, -60, 0, 60, 100, 120])
def test_the_magnitude_does_not_matter(bits, power):
    matrix = np.random.default_rng(0).integers(-90, 91, (4, 64)).astype(np.float32)
    near, near_scales = restored(matrix, bits, 32)

    far, far_scales = restored(np.ldexp(matrix, power), bits, 32)

    if power >= -110:  # below, the scales themselves have few places left
        np.testing.assert_array_equal(far, np.ldexp(near, power))
        np.testing.assert_array_equal(far_scales, np.ldexp(near_scales, power))
    assert np.abs(np.ldexp(far, -power) - matrix).max() <= 90


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_largest_floats_stay_finite(bits):
    largest = np.finfo(np.float32).max
    matrix = (np.linspace(-1, 1, 64) * largest).astype(np.float32).reshape(1, 64)

    values, scales = restored(matrix, bits, 32)

    assert np.isfinite(scales).all()
    assert np.abs(values / largest - matrix.astype(np.float64) / largest).max() < 1.01 / (1 << bits)


@given(matrices(st.floats(width=32, allow_nan=False, allow_infinity=False)))
@settings(max_examples=50)
def test_any_finite_matrix_gives_finite_scales_and_no_warning(case):
    matrix, block_size = case
    with np.errstate(all="raise", under="ignore"):
        for bits in (2, 4, 8):
            restored(matrix, bits, block_size)


def test_a_small_outlier_rich_block_gains_from_clipping():
    rng = np.random.default_rng(3)
    matrix = rng.standard_t(3, (64, 128)).astype(np.float32)
    values, _ = restored(matrix, 4, 32)

    blocks = blocks_of(matrix, 32)
    plain = sum(plain_error(block, 4) for block in blocks)
    assert np.square(values - matrix).sum() < 0.85 * plain


def test_rows_are_quantized_apart():
    matrix = np.random.default_rng(1).standard_normal((5, 72)).astype(np.float32)
    whole = quantize(matrix, 4, 32)

    for row in range(5):
        for all_rows, one in zip(whole, quantize(matrix[row : row + 1], 4, 32), strict=True):
            np.testing.assert_array_equal(all_rows[row], one[0])


def test_a_matrix_larger_than_one_panel_is_quantized_as_its_parts():
    matrix = np.random.default_rng(2).standard_normal((600, 256)).astype(np.float32)
    whole = quantize(matrix, 8, 64)

    for all_rows, part in zip(whole, quantize(matrix[500:], 8, 64), strict=True):
        np.testing.assert_array_equal(all_rows[500:], part)


@given(bits=st.sampled_from([2, 4, 8]), count=st.integers(2, 70), seed=st.integers(0, 1 << 32), data=st.data())
def test_a_blocks_result_depends_on_nothing_but_the_block(bits, count, seed, data):
    """So bytes are the same however the rows of a matrix are cut into pieces."""
    blocks = np.random.default_rng(seed).standard_t(3, (count, 32)).astype(np.float32)
    cut = data.draw(st.integers(1, count - 1))

    whole = quantize(blocks, bits, 32)

    for all_blocks, *parts in zip(
        whole, quantize(blocks[:cut], bits, 32), quantize(blocks[cut:], bits, 32), strict=True
    ):
        np.testing.assert_array_equal(all_blocks, np.concatenate(parts))


def weighted_error(matrix, importance, found):
    """Of a matrix whose rows are whole blocks, in float64."""
    integers, scales, zero_points = found
    values = (integers.astype(np.float64) - zero_points[..., None]) * scales[..., None]
    return (np.square(values.reshape(matrix.shape) - matrix) @ importance).sum()


@pytest.mark.parametrize("bits", [2, 4])
def test_columns_that_count_more_are_rounded_better(bits):
    rng = np.random.default_rng(4)
    matrix = rng.standard_normal((256, 64)).astype(np.float32)
    importance = np.where(np.arange(64) % 8 == 0, 100, 1).astype(np.float32)

    def error(found):
        return weighted_error(matrix, importance, found)

    assert error(quantize(matrix, bits, 32, importance)) < 0.6 * error(quantize(matrix, bits, 32))


@pytest.mark.parametrize("bits", [2, 4])
def test_zero_points_between_the_ends_round_better(bits):
    rng = np.random.default_rng(7)
    matrix = rng.standard_normal((256, 64)).astype(np.float32)
    importance = np.exp(2 * rng.standard_normal(64)).astype(np.float32)

    few, more = (quantize(matrix, bits, 32, importance, zero_points_between=count) for count in (0, 3))

    assert weighted_error(matrix, importance, more) < 0.97 * weighted_error(matrix, importance, few)


def test_importance_is_relative_within_a_block():
    matrix = np.random.default_rng(5).standard_normal((7, 100)).astype(np.float32)  # the last block is short
    importance = np.random.default_rng(6).random(100).astype(np.float32)

    for one, other in zip(
        quantize(matrix, 4, 32, importance), quantize(matrix, 4, 32, importance * np.float32(1024)), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(quantize(matrix, 4, 32, np.zeros(100, np.float32)), quantize(matrix, 4, 32), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("bits", [2, 4])
@given(matrices())
def test_a_symmetric_block_has_its_zero_in_the_middle(bits, case):
    matrix, block_size = case
    integers, scales, zero_points = quantize(matrix, bits, block_size, symmetric=True)

    assert (zero_points == 1 << (bits - 1)).all()
    assert integers.max(initial=0) < 1 << bits
    levels = integers.astype(np.float64) - (1 << (bits - 1))
    error = np.square((levels * scales[..., None]).reshape(-1, block_size) - blocks_of(matrix, block_size)).sum(1)
    assert (error <= np.square(blocks_of(matrix, block_size)).sum(1) * (1 + 1e-5) + SMALLEST).all()
