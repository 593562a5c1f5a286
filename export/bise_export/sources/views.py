"""Weights seen in another way than they are stored, still read lazily by rows."""

from __future__ import annotations

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
