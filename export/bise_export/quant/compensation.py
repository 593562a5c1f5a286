"""Rounding that makes up for itself: each column takes in what the columns before it are off by.

With H the mean of x xᵀ over a projection's inputs x, a row that is off by Δ gives outputs that are off by Δ H Δᵀ in the
mean square. For H = U D Uᵀ, U unit upper triangular, that is Σₖ Dₖ (Δₖ + Σⱼ<ₖ Δⱼ Uⱼₖ)². So column k is rounded to the
grid point nearest not to its weight but to its weight and Σⱼ<ₖ Δⱼ Uⱼₖ (Frantar et al., GPTQ, 2022, as Chee et al.,
QuIP, 2023, put it). A block's grid is searched when its turn comes, for what it then has to hold.

A few thousand tokens know less of how channels go together than of how large they are, so H's correlations count for
less than was seen. Mean KL of SmolLM2 with its layers in 4 bits, blocks of 32, in the reference, on the verification
texts and on documentation and code:

    rounded to the nearest, weighted by the inputs      0.144    0.115
    0.9 of each correlation (other texts, of 4,500)     0.155    0.084
    0.7                                                 0.110    0.093
    0.5                                                 0.106    0.086
    0.3                                                 0.101    0.086
    0.5, columns in windows of 512 of 1536              0.116    0.099

The usual way, all of the correlations and a hundredth of the diagonal's mean added to it, was worse than the nearest on
texts of other kinds than the calibration's (0.18). Less trust also keeps H well away from singular, however few the
tokens are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bise_export.errors import ExportError
from bise_export.quant.blocks import Uint8, quantize
from bise_export.sources.weight import Float32

_TRUSTED = np.float32(0.4)
# Columns that make up for each other. All of a wider matrix's would take a square as wide: 4.3 GB for the
# feed-forward's of Mistral Small 3. A multiple of every block.
_WINDOW_COLUMNS = 2048
PANEL_ROWS = 1024
"""Rows to compensate at once: many, since each column costs some calls of numpy, whatever its length."""


@dataclass(frozen=True, slots=True, eq=False)
class Curvature:
    """How errors in a matrix's columns add up in what the matrix gives.

    Attributes:
        importance: [columns], what a squared error in each column costs: H's diagonal.
        factors: U of each window of columns, one window after the other.
    """

    importance: Float32
    factors: tuple[Float32, ...]

    def windows(self) -> Iterator[tuple[int, Float32]]:
        """Each window's first column and its factor."""
        first = 0
        for factor in self.factors:
            yield first, factor
            first += len(factor)


def curvature(inputs: Float32) -> Curvature:
    """Of a projection that is given these inputs [tokens, columns].

    Raises:
        ExportError: an input is not finite.
    """
    tokens, columns = inputs.shape
    importance = (np.einsum("tc,tc->c", inputs, inputs) / np.float32(tokens)).astype(np.float32)
    if not np.isfinite(importance).all():
        raise ExportError(
            "expected finite inputs of every projection, got others. The checkpoint's weights overflow float32: export "
            "another, or use --rounding nearest."
        )
    scale = np.sqrt(np.where(importance > 0, importance, np.float32(1)))
    starts = range(0, columns, _WINDOW_COLUMNS)
    return Curvature(importance, tuple(_factor(*_window(inputs, scale, start)) for start in starts))


def curvature_bytes(tokens: int, columns: int) -> int:
    """The memory that `curvature` takes at most, with what it gives."""
    window = min(columns, _WINDOW_COLUMNS)
    return 4 * (columns * window + 4 * window * window + tokens * window)


def compensated(
    matrix: Float32, bits: int, block_size: int, curvature: Curvature, *, symmetric: bool = False
) -> tuple[Uint8, Float32, Uint8]:
    """As `blocks.quantize`, but a block depends on the whole row.

    Args:
        block_size: a divisor of a window, unless there is but one.
    """
    rows, columns = matrix.shape
    blocks = -(-columns // block_size)
    integers = np.empty((rows, blocks, block_size), np.uint8)
    scales, zero_points = np.empty((rows, blocks), np.float32), np.empty((rows, blocks), np.uint8)
    for first, factor in curvature.windows():
        weights = np.ascontiguousarray(matrix[:, first : first + len(factor)].T, np.float32)  # [window, rows]
        errors = np.empty_like(weights)
        for start in range(0, len(factor), block_size):
            stop, block = min(start + block_size, len(factor)), (first + start) // block_size
            wanted = weights[start:stop] + factor[:start, start:stop].T @ errors[:start]
            importance = curvature.importance[first + start : first + stop]
            found = quantize(np.ascontiguousarray(wanted.T), bits, block_size, importance, symmetric=symmetric)
            chosen, scales[:, block], zero_points[:, block] = (each[:, 0] for each in found)
            grid = _Grid(scales[:, block], zero_points[:, block], bits)
            for column in range(start, stop):
                before = factor[start:column, column] @ errors[start:column]
                levels, values = grid.nearest(wanted[column - start] + before)
                chosen[:, column - start] = levels
                errors[column] = weights[column] - values
            integers[:, block] = chosen
    return integers, scales, zero_points


class _Grid:
    """The values that one block of each row can take; arrays are [rows]."""

    def __init__(self, scale: Float32, zero_point: Uint8, bits: int) -> None:
        self._scale, self._zero = np.ascontiguousarray(scale), zero_point.astype(np.float32)
        self._inverse = 1 / np.where(self._scale == 0, np.float32(1), self._scale)
        self._top = (1 << bits) - 1

    def nearest(self, x: Float32) -> tuple[Float32, Float32]:
        """The integers to be stored, as floats, and what they stand for."""
        levels = np.rint(x * self._inverse)
        levels += self._zero
        np.clip(levels, 0, self._top, out=levels)
        values: Float32 = (levels - self._zero) * self._scale
        return levels, values


def _window(inputs: Float32, scale: Float32, start: int) -> tuple[Float32, Float32]:
    part = slice(start, start + _WINDOW_COLUMNS)
    return inputs[:, part] / scale[part], scale[part]


def _factor(inputs: Float32, scale: Float32) -> Float32:
    """U [columns, columns] of H = S C S with C the trusted part of the correlations and S the scale."""
    correlations = inputs.T @ inputs
    correlations *= _TRUSTED / np.float32(len(inputs))
    np.fill_diagonal(correlations, 1)
    # Cholesky gives a lower triangle; from the last column to the first it is an upper one.
    root = np.linalg.cholesky(correlations[::-1, ::-1])[::-1, ::-1]
    unit = root / np.diag(root)
    return np.ascontiguousarray(unit * (scale[:, None] / scale), np.float32)
