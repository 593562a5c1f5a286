"""How a matrix is stored: as floats, or as blocks of small integers with a scale and a zero point each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import gcd
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bise_export.errors import ExportError, UnsupportedError
from bise_export.quant.blocks import quantize
from bise_export.quant.compensation import Curvature, compensated
from bise_export.sources.weight import Float32


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor of a stored matrix; `suffix` follows the matrix's name, `shape[0]` counts the matrix's rows."""

    suffix: str
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        """Bytes one row of the matrix takes in this tensor."""
        return int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize


Importance = Float32 | Curvature

# Of the kernels.
_SMALLEST_BLOCK = 16


class Format(Protocol):
    """A way to store a matrix [rows, columns]."""

    @property
    def name(self) -> str:
        """For people: "fp32", "int4 block 32"."""
        ...

    def tensors(self, rows: int, columns: int) -> tuple[Stored, ...]:
        """What storing a matrix of this shape takes."""
        ...

    def dividing(self, columns: int) -> Format:
        """The nearest format whose blocks fill a row of so many columns, as a lookup table needs it."""
        ...

    def encode(self, matrix: Float32, importance: Importance | None = None) -> tuple[NDArray[np.generic], ...]:
        """Some rows of the matrix, as one array for each of `tensors`.

        Args:
            importance: [columns], what a squared error in each column costs, or what errors in all of them cost
                together; None is the same for all.

        Raises:
            ExportError: a number is too large for the element type it is stored in.
        """
        ...

    def rounded(self, matrix: Float32, importance: Importance | None = None) -> Float32:
        """Some rows of the matrix as they are read back from what `encode` gives."""
        ...


@dataclass(frozen=True, slots=True)
class Floats:
    """Every element as it is, in the given width."""

    dtype: np.dtype[np.floating]

    @property
    def name(self) -> str:
        return f"fp{8 * self.dtype.itemsize}"

    def tensors(self, rows: int, columns: int) -> tuple[Stored, ...]:
        return (Stored(".weight", self.dtype, (rows, columns)),)

    def encode(self, matrix: Float32, importance: Importance | None = None) -> tuple[NDArray[np.generic], ...]:  # noqa: ARG002
        return (narrowed(matrix, self.dtype),)

    def rounded(self, matrix: Float32, importance: Importance | None = None) -> Float32:  # noqa: ARG002
        return narrowed(matrix, self.dtype).astype(np.float32)

    def dividing(self, columns: int) -> Format:  # noqa: ARG002 - any number will do
        return self


@dataclass(frozen=True, slots=True)
class Blocks:
    """The layout of MatMulNBits and GatherBlockQuantized: `w = (q - zero_point) * scale` in blocks along a row.

    Integers are packed low bits first. Symmetric blocks have no zero points: both operators then take half of all
    levels. Others write them always.
    """

    bits: int
    block_size: int
    scale_dtype: np.dtype[np.floating]
    symmetric: bool = False

    @property
    def name(self) -> str:
        return f"int{self.bits} block {self.block_size}{' symmetric' * self.symmetric}"

    def tensors(self, rows: int, columns: int) -> tuple[Stored, ...]:
        blocks = -(-columns // self.block_size)  # the last one is filled up with zeros
        byte = np.dtype(np.uint8)
        stored = (
            Stored(".weight_quantized", byte, (rows, blocks, self.block_size * self.bits // 8)),
            Stored(".weight_scales", self.scale_dtype, (rows, blocks)),
            Stored(".weight_zero_points", byte, (rows, -(-blocks * self.bits // 8))),
        )
        return stored[:2] if self.symmetric else stored

    def encode(self, matrix: Float32, importance: Importance | None = None) -> tuple[NDArray[np.generic], ...]:
        integers, scales, zero_points = self._quantized(matrix, importance)
        encoded = pack(integers, self.bits), narrowed(scales, self.scale_dtype), pack(zero_points, self.bits)
        return encoded[:2] if self.symmetric else encoded

    def rounded(self, matrix: Float32, importance: Importance | None = None) -> Float32:
        integers, scales, zero_points = self._quantized(matrix, importance)
        values = integers.astype(np.float32) - zero_points[..., None]
        values *= narrowed(scales, self.scale_dtype).astype(np.float32)[..., None]
        return values.reshape(len(matrix), -1)[:, : matrix.shape[1]]

    def dividing(self, columns: int) -> Format:
        block_size = gcd(columns, self.block_size)
        if block_size < _SMALLEST_BLOCK:
            raise UnsupportedError(
                f"{columns} columns: expected a multiple of {_SMALLEST_BLOCK} to quantize in blocks, got none. "
                "Use --precision fp16."
            )
        return replace(self, block_size=block_size)

    def _quantized(
        self, matrix: Float32, importance: Importance | None
    ) -> tuple[NDArray[np.uint8], Float32, NDArray[np.uint8]]:
        if isinstance(importance, Curvature):
            assert importance.block_size == self.block_size, (importance.block_size, self)
            return compensated(matrix, self.bits, importance, symmetric=self.symmetric)
        return quantize(matrix, self.bits, self.block_size, importance, symmetric=self.symmetric)


def narrowed(values: Float32, dtype: np.dtype[np.floating]) -> NDArray[np.floating]:
    """`values` in a type that may be narrower.

    Raises:
        ExportError: a finite value is beyond its range.
    """
    with np.errstate(over="ignore"):
        found = values.astype(dtype, copy=False)
    if dtype.itemsize < values.dtype.itemsize and not np.isfinite(found).all():
        raise ExportError(
            f"expected magnitudes of at most {float(np.finfo(dtype).max):.6g} for {dtype.name}, "
            f"got {float(np.abs(values).max()):.6g}. Export for cpu with --precision int8 or fp32."
        )
    return found


def pack(integers: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Packs `8 // bits` integers into a byte along the last axis, first in the low bits; the last byte can be short."""
    per_byte = 8 // bits
    if per_byte == 1:
        return integers
    *lead, last = integers.shape
    padded = integers
    if last % per_byte:
        padded = np.zeros((*lead, -(-last // per_byte) * per_byte), np.uint8)
        padded[..., :last] = integers
    packed = padded[..., ::per_byte].copy()
    for place in range(1, per_byte):
        packed |= padded[..., place::per_byte] << np.uint8(bits * place)
    return packed


def unpack(packed: NDArray[np.uint8], bits: int, count: int) -> NDArray[np.uint8]:
    """The first `count` integers of each packed row: the inverse of `pack`."""
    per_byte = 8 // bits
    shifts = (np.arange(per_byte) * bits).astype(np.uint8)
    integers = (packed[..., None] >> shifts) & np.uint8((1 << bits) - 1)
    return integers.reshape(*packed.shape[:-1], -1)[..., :count]
