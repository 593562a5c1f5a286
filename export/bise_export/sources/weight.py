"""A checkpoint's weight, read lazily by rows, so that no tensor need be in memory whole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]


class Weight(Protocol):
    """One weight in canonical layout: [out, in] for a matrix, [size] for a vector; q and k rows for half rotation."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape in elements."""
        ...

    @property
    def dtype(self) -> str:
        """The checkpoint's own name of the element type, for instance `Q4_1` or `BF16`."""
        ...

    @property
    def file(self) -> Path:
        """The file the weight lies in, for messages."""
        ...

    def rows(self, start: int, stop: int) -> Float32:
        """Rows `start` to `stop` (elements, for a vector) as float32 [stop - start, ...].

        Raises:
            SourceError: the file is shorter than its header says.
        """
        ...


@dataclass(frozen=True, slots=True)
class HalfRotation:
    """A q or k projection stored for interleaved RoPE, read as if stored for half rotation.

    Interleaved storage pairs rows (2i, 2i + 1) of each head; half rotation pairs (i, i + head_dim / 2).
    """

    stored: Weight
    head_dim: int

    @property
    def shape(self) -> tuple[int, ...]:
        return self.stored.shape

    @property
    def dtype(self) -> str:
        return self.stored.dtype

    @property
    def file(self) -> Path:
        return self.stored.file

    def rows(self, start: int, stop: int) -> Float32:
        first_head, last_head = start // self.head_dim, -(-stop // self.head_dim)
        heads = self.stored.rows(first_head * self.head_dim, last_head * self.head_dim)
        split = heads.reshape(
            last_head - first_head, self.head_dim // 2, 2, *heads.shape[1:]
        )  # [heads, pair, half, in]
        halves = split.swapaxes(1, 2).reshape(heads.shape)
        offset = start - first_head * self.head_dim
        return halves[offset : offset + stop - start]
