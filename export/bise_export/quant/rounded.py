"""A weight as a format would give it back, for whoever asks what storing it that way costs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bise_export.quant.formats import Format
from bise_export.sources.weight import Float32, Weight


@dataclass(frozen=True, slots=True)
class Rounded:
    """`stored`, some of its rows rounded as `format` rounds them; `importance` as in `Format.encode`."""

    stored: Weight
    format: Format
    importance: Float32 | None
    first_row: int
    end_row: int

    @property
    def shape(self) -> tuple[int, ...]:
        return self.stored.shape

    @property
    def dtype(self) -> str:
        return self.format.name

    @property
    def file(self) -> Path:
        return self.stored.file

    def rows(self, start: int, stop: int) -> Float32:
        values = self.stored.rows(start, stop)
        rounded = slice(max(0, self.first_row - start), max(0, self.end_row - start))
        if not values[rounded].size:
            return values
        return np.concatenate(
            [
                values[: rounded.start],
                self.format.rounded(values[rounded], self.importance),
                values[rounded.stop :],
            ]
        )
