"""A weight that tells how much of it was read, for whoever shows progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bise_export.sources.weight import Float32, Weight


@dataclass(frozen=True, slots=True)
class Watched:
    """`stored`, whose reader tells `advance` the count of elements of each read."""

    stored: Weight
    advance: Callable[[int], None]

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
        """As the weight's own."""
        values = self.stored.rows(start, stop)
        self.advance(values.size)
        return values
