"""The one place where a checkpoint's numbers are proved to be numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bise_export.errors import SourceError
from bise_export.sources.weight import Float32, Weight


@dataclass(frozen=True, slots=True)
class Finite:
    """A weight whose reads fail on NaN and infinity: one such value makes every answer of the model garbage."""

    stored: Weight
    name: str

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
        """Rows `start` to `stop` as float32.

        Raises:
            SourceError: a value is NaN or infinite, or the file is shorter than its header says.
        """
        values = self.stored.rows(start, stop)
        finite = np.isfinite(values)
        if not finite.all():
            first = tuple(int(axis) for axis in np.argwhere(~finite)[0])
            raise SourceError(
                f"{self.file}: {self.name}: expected finite numbers, got {values[first]} "
                f"at {[first[0] + start, *first[1:]]}. The checkpoint is broken; get the file again."
            )
        return values
