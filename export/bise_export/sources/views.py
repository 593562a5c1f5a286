"""Weights seen in another way than they are stored, still read lazily by rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bise_export.sources.weight import Float32, Weight


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows of a weight that is stored together with others."""

    whole: Weight
    first_row: int
    shape: tuple[int, ...]

    @property
    def dtype(self) -> str:
        return self.whole.dtype

    @property
    def file(self) -> Path:
        return self.whole.file

    def rows(self, start: int, stop: int) -> Float32:
        return self.whole.rows(self.first_row + start, self.first_row + stop)


@dataclass(frozen=True, slots=True)
class Stacked:
    """Weights of as many columns, one below the other."""

    pieces: Sequence[Weight]

    @property
    def shape(self) -> tuple[int, ...]:
        return (sum(piece.shape[0] for piece in self.pieces), *self.pieces[0].shape[1:])

    @property
    def dtype(self) -> str:
        return ", ".join(dict.fromkeys(piece.dtype for piece in self.pieces))

    @property
    def file(self) -> Path:
        return self.pieces[0].file

    def rows(self, start: int, stop: int) -> Float32:
        found, first = [], 0
        for piece in self.pieces:
            begin, end = max(start - first, 0), min(stop - first, piece.shape[0])
            if begin < end:
                found.append(piece.rows(begin, end))
            first += piece.shape[0]
        return np.concatenate(found)


@dataclass(frozen=True, slots=True)
class Shifted:
    """A weight with a number added to each element."""

    stored: Weight
    offset: float

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
        return self.stored.rows(start, stop) + np.float32(self.offset)
