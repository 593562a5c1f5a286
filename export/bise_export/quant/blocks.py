"""The block quantizer: for each block, the scale and zero point of the least weighted error among a few candidates."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bise_export.sources.weight import Float32

# Shares of the block's range that candidates cover (a smaller share clips one end for a finer grid), and how often the
# best one's fitted scale is tried as a grid of its own. Mean KL of SmolLM2 with its layers in 4 bits, blocks of 32, in
# the reference; differences of 0.01 are chance:
#
#     shares                           refits   all columns alike   weighted by their inputs
#     1, 0.93                          1        0.289               0.180
#     1, 0.93, 0.86                    1                            0.169
#     1, 0.93, 0.86, 0.78              2        0.292               0.158
#     1, 0.9, 0.8, 0.7, 0.6            1                            0.145
#     1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4  1                            0.148
#     each zero point, 4 shares        2                            0.131
#
# A block often ends at a weight that is multiplied with next to nothing, so weighted errors ask for small shares.
# With the inputs' own lengths taken out before they are squared, a token as much as any other, it was 0.195.
_RANGE_SHARES = {2: (1.0, 0.8, 0.6, 0.45), 4: (1.0, 0.9, 0.8, 0.7, 0.6, 0.5), 8: (1.0,)}
_REFITS = {2: 1, 4: 1, 8: 0}
# Elements worked on at once: intermediates of 256 KiB stay in cache. 4 bits, one core: 45 M weights/s at 16,384, 67 at
# 32,768, 79 at 65,536, 85 at 131,072, measured with the first row of shares.
_CACHE_ELEMENTS = 65536
# numpy sums a single column in another order than several, which would let last bits depend on where a matrix is cut.
_FEWEST_BLOCKS = 2
# A later candidate must explain this much more of a block: less is rounding, and would displace an exact grid.
_MARGIN = np.float32(1 + 1e-6)
_LARGEST_EXPONENT = 126
_LEAST_WEIGHT = np.float32(1e-4)
_ARRAYS = 6

Uint8 = NDArray[np.uint8]


def quantize(
    matrix: Float32,
    bits: int,
    block_size: int,
    importance: Float32 | None = None,
    *,
    symmetric: bool = False,
    zero_points_between: int = 0,
) -> tuple[Uint8, Float32, Uint8]:
    """Quantizes rows in blocks. A block's result depends on nothing but the block.

    A block stored with the same grid before (GGUF's Q4_0 for 4 bits, Q8_0 for 8, same block) comes back unchanged:
    the symmetric grid over the largest magnitude is the first candidate.

    Args:
        matrix: [rows, columns], finite; the last block of a row is filled up with zeros.
        bits: 2, 4 or 8.
        block_size: elements that share a scale.
        importance: [columns], what a squared error in each column costs, as far as columns of one block differ; None is
            the same for all.
        symmetric: every zero point is the middle, half of all levels.
        zero_points_between: how many to try for each scale between those that keep the lower and the upper end; none if
            symmetric.

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
    step = max(_FEWEST_BLOCKS, _CACHE_ELEMENTS // block_size)
    weights = _block_weights(importance, columns, block_size)
    scratch = np.empty((_ARRAYS, block_size * min(step, max(_FEWEST_BLOCKS, len(blocks)))), np.float32)
    for start in range(0, len(blocks), step):
        part = slice(start, start + step)
        panel = _Panel(blocks[part], weights, start % len(weights), bits, scratch)
        integers[part], scales[part], zero_points[part] = panel.quantized(
            symmetric=symmetric, zero_points_between=zero_points_between
        )
    shape = (rows, len(blocks) // rows)
    return integers.reshape(*shape, block_size), scales.reshape(shape), zero_points.reshape(shape)


class _Panel:
    """Some blocks, and the best grid found for each so far.

    A column a block: what is one number per block lies along the axis that numpy vectorizes. All arrays of elements are
    [block_size, blocks], all others [blocks].

    Args:
        blocks: [blocks, block_size].
        weights: [places, block_size], of squared errors; the blocks' places follow each other, again and again.
        first: the first block's place.
        scratch: `_ARRAYS` rows with room for the blocks' elements each; allocating them anew would cost page faults.
    """

    def __init__(self, blocks: Float32, weights: Float32, first: int, bits: int, scratch: Float32) -> None:
        self._count, block_size = blocks.shape
        width = max(_FEWEST_BLOCKS, self._count)
        x, weighted_x, w, *rest = (row[: block_size * width].reshape(block_size, width) for row in scratch)
        self._x, self._weighted_x, self._weights = x, weighted_x, w
        self._levels, self._clipped, self._products = rest
        w[:] = weights[(first + np.arange(width)) % len(weights)].T
        x[:, : self._count] = blocks.T
        x[:, self._count :] = 0
        low, high = x.min(0), x.max(0)
        # Powers of two bring each block near 1, exactly, so that no square of a huge or tiny element leaves float32.
        exponents = np.frexp(np.maximum(high, -low))[1]
        self._unit = np.ldexp(np.float32(1), np.clip(exponents, -_LARGEST_EXPONENT, _LARGEST_EXPONENT))
        inverse = 1 / self._unit
        x *= inverse
        np.multiply(x, w, out=weighted_x)
        self._low, self._high = np.minimum(low * inverse, 0), np.maximum(high * inverse, 0)  # zero is on every grid
        self._bits, self._top = bits, (1 << bits) - 1
        self._explained = np.full(width, -1, np.float32)
        self._scale, self._zero, self._fitted = np.zeros((3, width), np.float32)

    def quantized(self, *, symmetric: bool, zero_points_between: int) -> tuple[Uint8, Float32, Uint8]:
        """Integers [blocks, block_size], scales [blocks] and zero points [blocks]."""
        if not symmetric:
            self._try_symmetric()
        for share in _RANGE_SHARES[self._bits]:
            if symmetric:
                self._try_middle(share)
            else:
                self._try_range(share, zero_points_between)
        for _ in range(_REFITS[self._bits]):
            self._round(self._fitted)
            self._weigh(self._fitted.copy(), self._zero.copy())
        self._round(self._scale)
        levels = self._clip(self._scale, self._zero)
        # The fitted scale is never worse but for its own rounding, which an exact grid must not suffer.
        plain, fitted = (self._error(levels, scale) for scale in (self._scale, self._fitted))
        scales = np.where(plain <= fitted, self._scale, self._fitted) * self._unit
        integers = np.add(levels, self._zero, out=self._products).astype(np.uint8)
        return integers.T[: self._count], scales[: self._count], self._zero[: self._count].astype(np.uint8)

    def _try_symmetric(self) -> None:
        # -8d … 7d puts the larger magnitude on the longer side; 8 bits use ±127 as Q8_0 does.
        half = 1 << (self._bits - 1)
        widest = half if self._bits < 8 else half - 1
        larger_above = (self._high > -self._low) & (self._bits < 8)
        scale = np.maximum(self._high, -self._low) / np.float32(widest)
        self._round(scale)
        self._weigh(scale, np.where(larger_above, self._top - half, half).astype(np.float32))

    def _try_middle(self, share: float) -> None:
        """The grid with its zero in the middle over so much of the range: one level more below than above."""
        half = 1 << (self._bits - 1)
        scale = np.maximum(self._high / np.float32(half - 1), -self._low / np.float32(half)) * np.float32(share)
        self._round(scale)
        self._weigh(scale, np.full_like(scale, half))

    def _try_range(self, share: float, between: int) -> None:
        """Grids over so much of the range: one that keeps the lower end; if that clips, others up to the upper."""
        scale = (self._high - self._low) * np.float32(share / self._top)
        step = _nonzero(scale)
        self._round(scale)
        lower = np.clip(np.rint(-self._low / step), 0, self._top)
        self._weigh(scale, lower)
        if share < 1:
            upper = np.clip(np.rint(self._top - self._high / step), 0, self._top)
            self._weigh(scale, upper)
            for part in range(1, between + 1):
                self._weigh(scale, np.rint(lower + (upper - lower) * np.float32(part / (between + 1))))

    def _round(self, scale: Float32) -> None:
        """Fills `levels` with the steps from zero that an endless grid has nearest to x."""
        np.multiply(self._x, 1 / _nonzero(scale), out=self._levels)
        np.rint(self._levels, out=self._levels)

    def _clip(self, scale: Float32, zero: Float32) -> Float32:
        """`levels`, which are of this scale, as far as the grid goes; ends that no block crosses cost no pass."""
        inverse = 1 / _nonzero(scale)
        levels: Float32 = self._levels
        if (np.rint(self._low * inverse) < -zero).any():
            levels = np.maximum(levels, -zero, out=self._clipped)
        if (np.rint(self._high * inverse) > self._top - zero).any():
            levels = np.minimum(levels, self._top - zero, out=self._clipped)
        return levels

    def _weigh(self, scale: Float32, zero: Float32) -> None:
        """Keeps a grid, whose `levels` are there, for the blocks that it suits better than any before.

        Weighted least squares: with the scale overlap / energy these levels leave |x|² - overlap² / energy.
        """
        levels = self._clip(scale, zero)
        overlap = np.einsum("eb,eb->b", levels, self._weighted_x)
        energy = np.einsum("eb,eb->b", levels, np.multiply(levels, self._weights, out=self._products))
        fitted = overlap / _nonzero(energy)
        explained = fitted * overlap
        better = explained > self._explained * _MARGIN
        for best, trial in (
            (self._explained, explained),
            (self._scale, scale),
            (self._zero, zero),
            (self._fitted, fitted),
        ):
            np.copyto(best, trial, where=better)

    def _error(self, levels: Float32, scale: Float32) -> Float32:
        errors: Float32 = np.multiply(levels, scale, out=self._products)
        errors -= self._x
        np.square(errors, out=errors)
        errors *= self._weights
        squared: Float32 = errors.sum(0)
        return squared


def _block_weights(importance: Float32 | None, columns: int, block_size: int) -> Float32:
    """[blocks of a row, block_size], with a mean of 1 in each block, and nothing without any weight."""
    blocks = -(-columns // block_size)
    padded = np.zeros(blocks * block_size, np.float32)
    padded[:columns] = 1 if importance is None else importance
    weights = padded.reshape(blocks, block_size)
    mean = weights.mean(1, keepdims=True)
    relative: Float32 = np.where(mean > 0, weights / _nonzero(mean), np.float32(1))
    return np.maximum(relative, _LEAST_WEIGHT)


def _nonzero(values: Float32) -> Float32:
    return np.where(values == 0, np.float32(1), values)
