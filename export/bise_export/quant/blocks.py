"""The block quantizer: for each block, the scale and zero point of the least squared error among a few candidates."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from bise_export.sources.weight import Float32

# Shares of the block's range that candidates cover; a smaller share clips one end for a finer grid. Measured on
# SmolLM2's matrices at 4 bits in blocks of 32: twice as many shares lower the mean squared error by 0.1 %, 26 of them
# by 2.4 %, with no effect on the KL divergence that could be told from chance; clipping the upper end only raises the
# error by 1.5 %.
_RANGE_SHARES = {4: (1.0, 0.92, 0.84, 0.74), 8: (1.0,)}
# Elements worked on at once: intermediates of 256 KiB stay in cache. 4 bits, one core: 25 M weights/s at 8,192, 38 at
# 16,384, 51 at 32,768, 57 at 65,536 and above.
_CACHE_ELEMENTS = 65536
# A later candidate must explain this much more of a block: less is rounding, and would displace an exact grid.
_MARGIN = np.float32(1 + 1e-6)
_LARGEST_EXPONENT = 126

Uint8 = NDArray[np.uint8]


def quantize(matrix: Float32, bits: int, block_size: int) -> tuple[Uint8, Float32, Uint8]:
    """Quantizes rows in blocks.

    A block stored with the same grid before (GGUF's Q4_0 for 4 bits, Q8_0 for 8, same block) comes back unchanged:
    the symmetric grid over the largest magnitude is the first candidate.

    Args:
        matrix: [rows, columns], finite; the last block of a row is filled up with zeros.
        bits: 4 or 8.
        block_size: elements that share a scale.

    Returns:
        integers [rows, blocks, block_size], scales [rows, blocks] and zero points [rows, blocks], with
        `matrix ≈ (integers - zero_points) * scales`.
    """
    rows, columns = matrix.shape
    missing = -columns % block_size
    padded = np.pad(matrix, ((0, 0), (0, missing))) if missing else matrix
    blocks = np.ascontiguousarray(padded, np.float32).reshape(-1, block_size)
    integers = np.empty(blocks.shape, np.uint8)
    scales = np.empty(len(blocks), np.float32)
    zero_points = np.empty(len(blocks), np.uint8)
    step = max(1, _CACHE_ELEMENTS // block_size)
    for start in range(0, len(blocks), step):
        part = slice(start, start + step)
        # A column a block from here on: what is one number per block lies along the axis that numpy vectorizes.
        integers[part].T[...], scales[part], zero_points[part] = _search(blocks[part].T, bits)
    shape = (rows, len(blocks) // rows)
    return integers.reshape(*shape, block_size), scales.reshape(shape), zero_points.reshape(shape)


def _search(blocks: Float32, bits: int) -> tuple[Float32, Float32, Float32]:
    """Integers [block_size, blocks], scales [blocks] and zero points [blocks] for blocks [block_size, blocks]."""
    top = (1 << bits) - 1
    # Powers of two bring each block near 1, exactly, so that no square of a huge or tiny element leaves float32.
    exponents = np.frexp(np.maximum(blocks.max(0), -blocks.min(0)))[1]
    unit = np.ldexp(np.float32(1), np.clip(exponents, -_LARGEST_EXPONENT, _LARGEST_EXPONENT))
    x = np.multiply(blocks, 1 / unit, order="C")
    levels, products = np.empty_like(x), np.empty_like(x)
    explained = np.full(x.shape[1], -1, np.float32)
    scale, zero, fitted = (np.zeros(x.shape[1], np.float32) for _ in range(3))
    for trial_scale, trial_zero in _candidates(x, bits):
        _round(x, trial_scale, trial_zero, top, levels)
        energy = np.multiply(levels, levels, out=products).sum(0)
        overlap = np.multiply(levels, x, out=products).sum(0)
        # Least squares: with the scale overlap / energy these levels leave |x|² - overlap² / energy.
        trial_fitted = overlap / _nonzero(energy)
        trial_explained = trial_fitted * overlap
        better = trial_explained > explained * _MARGIN
        for best, trial in (
            (explained, trial_explained),
            (scale, trial_scale),
            (zero, trial_zero),
            (fitted, trial_fitted),
        ):
            np.copyto(best, trial, where=better)
    _round(x, scale, zero, top, levels)
    # The fitted scale is never worse but for its own rounding, which an exact grid must not suffer.
    errors = [np.square(np.subtract(levels * each, x, out=products), out=products).sum(0) for each in (scale, fitted)]
    scale = np.where(errors[0] <= errors[1], scale, fitted) * unit
    levels += zero
    return levels, scale, zero


def _candidates(x: Float32, bits: int) -> Iterator[tuple[Float32, Float32]]:
    """Scales and zero points [blocks] to try on x [block_size, blocks]; zero is always on the grid."""
    top, half = (1 << bits) - 1, 1 << (bits - 1)
    low, high = np.minimum(x.min(0), 0), np.maximum(x.max(0), 0)
    # The symmetric grids: -8d … 7d puts the larger magnitude on the longer side; 8 bits use ±127 as Q8_0 does.
    larger_above = high > -low
    middle = np.where(larger_above, top - half, half) if bits < 8 else np.full(low.shape, half)
    yield np.maximum(high, -low) / np.float32(half if bits < 8 else half - 1), middle.astype(np.float32)
    for share in _RANGE_SHARES[bits]:
        scale = (high - low) * np.float32(share / top)
        step = _nonzero(scale)
        yield scale, np.clip(np.rint(-low / step), 0, top)
        if share < 1:
            yield scale, np.clip(np.rint(top - high / step), 0, top)


def _round(x: Float32, scale: Float32, zero: Float32, top: int, levels: Float32) -> None:
    """Fills `levels` with the steps from zero that the grid has nearest to x."""
    np.multiply(x, 1 / _nonzero(scale), out=levels)
    np.rint(levels, out=levels)
    np.maximum(levels, -zero, out=levels)
    np.minimum(levels, top - zero, out=levels)


def _nonzero(values: Float32) -> Float32:
    return np.where(values == 0, np.float32(1), values)
