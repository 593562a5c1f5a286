"""How a matrix is stored: packing, shapes, and what does not fit the element type."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from bise_export.errors import ExportError, UnsupportedError
from bise_export.quant.formats import Blocks, Floats, narrowed, pack, unpack

FLOAT16, FLOAT32 = np.dtype(np.float16), np.dtype(np.float32)


@given(st.sampled_from([2, 4, 8]), st.data())
def test_unpacking_is_the_inverse_of_packing(bits, data):
    shape = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 40)))
    integers = data.draw(arrays.arrays(np.uint8, shape, elements=st.integers(0, (1 << bits) - 1)))

    packed = pack(integers, bits)

    assert packed.shape == (shape[0], -(-shape[1] * bits // 8))
    np.testing.assert_array_equal(unpack(packed, bits, shape[1]), integers)


def test_the_first_integer_is_in_the_low_bits_and_a_short_byte_ends_in_zeros():
    np.testing.assert_array_equal(pack(np.array([[1, 2, 15]], np.uint8), 4), [[0x21, 0x0F]])
    np.testing.assert_array_equal(pack(np.array([[3, 0, 1, 2, 1]], np.uint8), 2), [[0b10010011, 0b01]])


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize(("columns", "block_size"), [(96, 32), (576, 128), (40, 16), (1536, 64)])
def test_what_is_encoded_has_the_shapes_that_were_announced(bits, columns, block_size):
    form = Blocks(bits, block_size, FLOAT32)
    announced = form.tensors(7, columns)
    encoded = form.encode(np.random.default_rng(0).standard_normal((7, columns)).astype(np.float32))

    for tensor, values in zip(announced, encoded, strict=True):
        assert (values.dtype, values.shape) == (tensor.dtype, tensor.shape), tensor.suffix
        assert values.nbytes == 7 * tensor.row_bytes


def test_encoded_blocks_decode_to_the_matrix():
    matrix = np.random.default_rng(0).standard_normal((6, 200)).astype(np.float32)
    packed, scales, zero_points = Blocks(8, 64, FLOAT32).encode(matrix)

    values = unpack(packed.reshape(6, -1), 8, 256).reshape(6, 4, 64) - unpack(zero_points, 8, 4)[..., None].astype(int)
    np.testing.assert_allclose((values * scales[..., None]).reshape(6, -1)[:, :200], matrix, atol=0.02)


@pytest.mark.parametrize(("columns", "asked", "given_"), [(576, 128, 64), (576, 64, 64), (96, 64, 32), (80, 32, 16)])
def test_a_lookup_table_gets_blocks_that_fill_its_rows(columns, asked, given_):
    assert Blocks(8, asked, FLOAT32).dividing(columns) == Blocks(8, given_, FLOAT32)
    assert Floats(FLOAT16).dividing(columns) == Floats(FLOAT16)


def test_a_row_that_no_block_fills_is_refused():
    with pytest.raises(UnsupportedError, match="40 columns: expected a multiple of 16"):
        Blocks(8, 32, FLOAT32).dividing(40)


def test_floats_are_stored_as_they_are():
    matrix = np.array([[1.5, -2.25]], np.float32)
    for dtype in (FLOAT16, FLOAT32):
        (stored,) = Floats(dtype).encode(matrix)
        assert stored.dtype == dtype
        np.testing.assert_array_equal(stored, matrix)


def test_a_number_too_large_for_its_type_is_refused():
    values = np.array([1, 7e4], np.float32)

    assert narrowed(values, FLOAT32) is values
    with pytest.raises(ExportError, match="expected magnitudes of at most 65504 for float16, got 70000"):
        narrowed(values, FLOAT16)
    with pytest.raises(ExportError, match="float16"):
        Blocks(4, 16, FLOAT16).encode(np.full((1, 16), 1e7, np.float32))
