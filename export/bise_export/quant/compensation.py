"""Rounding that makes up for itself: each column takes in what the columns before it are off by.

With H the mean of x xᵀ over a projection's inputs x, a row that is off by Δ gives outputs that are off by Δ H Δᵀ in the
mean square. For H = U D Uᵀ, U unit upper triangular, that is Σₖ Dₖ (Δₖ + Σⱼ<ₖ Δⱼ Uⱼₖ)². So column k is rounded to the
grid point nearest not to its weight but to its weight and Σⱼ<ₖ Δⱼ Uⱼₖ (Frantar et al., GPTQ, 2022, as Chee et al.,
QuIP, 2023, put it). A block's grid is searched when its turn comes, for what it then has to hold.

Then each block is rounded once more for what all others leave to it, and kept if its row is nearer so: by H, which is
of the calibration's inputs, and as far as it is trusted below.

A few thousand tokens know less of how channels go together than of how large they are, so H's correlations count for
less than was seen. Mean KL of SmolLM2 with its layers in 4 bits, blocks of 32, in the reference, without that second
look, on the verification texts and on documentation and code:

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

from dataclasses import dataclass

import numpy as np

from bise_export.errors import ExportError
from bise_export.quant.blocks import Uint8, quantize
from bise_export.sources.weight import Float32

_TRUSTED = np.float32(0.4)
# Columns that make up for each other. All of a wider matrix's would take a square as wide: 4.3 GB for the
# feed-forward's of Mistral Small 3. A multiple of every block.
_WINDOW_COLUMNS = 2048
# Of the grid search: a quarter more time here, where plain rounding would take twice as long. It takes 4 to 5 % off the
# weighted error of normal weights; what it does for SmolLM2's mean KL is within chance.
_ZERO_POINTS_BETWEEN = 3
PANEL_ROWS = 1024
"""Rows to compensate at once: many, since each column costs some calls of numpy, whatever its length."""


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """What is known of neighbouring columns.

    Attributes:
        factor: [columns, columns], U of H = U D Uᵀ.
        coupling: [columns, columns], what a block's columns had best be off by, for each that another column is off by.
        inner: [block, block] each, U of each block's own H.
        inner_costs: [block] each, D of each block's own H.
    """

    factor: Float32
    coupling: Float32
    inner: tuple[Float32, ...]
    inner_costs: tuple[Float32, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Curvature:
    """How errors in a matrix's columns add up in what the matrix gives.

    Attributes:
        importance: [columns], what a squared error in each column costs: H's diagonal.
        block_size: of the blocks it is made for.
        windows: of columns, one after the other.
    """

    importance: Float32
    block_size: int
    windows: tuple[Window, ...]


def curvature(inputs: Float32, block_size: int) -> Curvature:
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
    parts = [slice(start, start + _WINDOW_COLUMNS) for start in range(0, columns, _WINDOW_COLUMNS)]
    return Curvature(importance, block_size, tuple(_window(inputs[:, at], scale[at], block_size) for at in parts))


def curvature_bytes(tokens: int, columns: int) -> int:
    """The memory that `curvature` takes at most, with what it gives."""
    window = min(columns, _WINDOW_COLUMNS)
    return 4 * (2 * columns * window + 4 * window * window + tokens * window)


def compensated(
    matrix: Float32, bits: int, curvature: Curvature, *, symmetric: bool = False
) -> tuple[Uint8, Float32, Uint8]:
    """As `blocks.quantize`, in the curvature's blocks; but a block depends on the whole row."""
    rows, columns = matrix.shape
    block_size, blocks = curvature.block_size, -(-columns // curvature.block_size)
    integers = np.empty((rows, blocks, block_size), np.uint8)
    scales, zero_points = np.empty((rows, blocks), np.float32), np.empty((rows, blocks), np.uint8)
    first = 0
    for window in curvature.windows:
        part = slice(first, first + len(window.factor))
        weights = np.ascontiguousarray(matrix[:, part].T, np.float32)  # [window, rows]
        errors = np.zeros_like(weights)
        importance = curvature.importance[part]
        spans = [slice(start, min(start + block_size, len(weights))) for start in range(0, len(weights), block_size)]
        for at in spans:
            before = slice(0, at.start)
            wanted = weights[at] + window.factor[before, at].T @ errors[before]
            found = _Rounded(wanted, bits, block_size, importance[at], window.factor[at, at], symmetric=symmetric)
            errors[at] = weights[at] - found.values
            block = (first + at.start) // block_size
            integers[:, block], scales[:, block], zero_points[:, block] = found.stored
        for at, factor, costs in zip(spans, window.inner, window.inner_costs, strict=True):
            wanted = weights[at] + window.coupling[at] @ errors
            found = _Rounded(wanted, bits, block_size, importance[at], factor, symmetric=symmetric)
            old = factor.T @ (wanted - weights[at] + errors[at])
            better = costs @ np.square(found.residuals) < costs @ np.square(old)
            errors[at] = np.where(better, weights[at] - found.values, errors[at])
            block = (first + at.start) // block_size
            for kept, new in zip((integers, scales, zero_points), found.stored, strict=True):
                kept[better, block] = new[better]
        first = part.stop
    return integers, scales, zero_points


class _Rounded:
    """One block of each row, its columns rounded one after the other.

    Args:
        wanted: [columns, rows], what the block is to hold, if none of its columns were off.
        factor: [columns, columns], U among the block's columns.

    Attributes:
        stored: integers [rows, block_size], scales [rows] and zero points [rows].
        values: [columns, rows], what those stand for.
        residuals: [columns, rows], what each column is off by when those before it are counted in.
    """

    def __init__(
        self, wanted: Float32, bits: int, block_size: int, importance: Float32, factor: Float32, *, symmetric: bool
    ) -> None:
        found = quantize(
            np.ascontiguousarray(wanted.T),
            bits,
            block_size,
            importance,
            symmetric=symmetric,
            zero_points_between=_ZERO_POINTS_BETWEEN,
        )
        integers, scale, zero_point = (np.ascontiguousarray(each[:, 0]) for each in found)
        inverse = 1 / np.where(scale == 0, np.float32(1), scale)
        zero, top = zero_point.astype(np.float32), (1 << bits) - 1
        self.values, self.residuals, errors = np.empty((3, *wanted.shape), np.float32)
        for column in range(len(wanted)):
            x = wanted[column] + factor[:column, column] @ errors[:column]
            levels = np.clip(np.rint(x * inverse) + zero, 0, top)
            integers[:, column] = levels
            self.values[column] = (levels - zero) * scale
            errors[column] = wanted[column] - self.values[column]
            self.residuals[column] = x - self.values[column]
        self.stored = integers, scale, zero_point


def _window(inputs: Float32, scale: Float32, block_size: int) -> Window:
    """Of H = S C S with C the trusted part of the inputs' correlations and S the scale of each."""
    inputs = inputs / scale
    correlations = inputs.T @ inputs
    correlations *= _TRUSTED / np.float32(len(inputs))
    np.fill_diagonal(correlations, 1)
    coupling, inner, costs = correlations.copy(), [], []
    for start in range(0, len(scale), block_size):
        at = slice(start, start + block_size)
        own = correlations[at, at]
        coupling[at, at] = 0
        coupling[at] = np.linalg.solve(own, coupling[at])
        factor, cost = _factors(own, scale[at])
        inner.append(factor)
        costs.append(cost)
    coupling *= scale / scale[:, None]
    return Window(_factors(correlations, scale)[0], coupling, tuple(inner), tuple(costs))


def _factors(correlations: Float32, scale: Float32) -> tuple[Float32, Float32]:
    """U [columns, columns] and D [columns] of S C S = U D Uᵀ."""
    # Cholesky gives a lower triangle; from the last column to the first it is an upper one.
    root = np.linalg.cholesky(correlations[::-1, ::-1])[::-1, ::-1]
    diagonal = np.diag(root)
    unit: Float32 = np.ascontiguousarray(root / diagonal * (scale[:, None] / scale), np.float32)
    return unit, np.square(diagonal * scale)
