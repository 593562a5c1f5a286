"""A weight as a format would give it back, for whoever asks what storing it that way costs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bise_export.quant.formats import Format
from bise_export.sources.weight import Float32, Weight


@dataclass(frozen=True, slots=True)
class Rounded:
    """`stored`, each row rounded as `format` rounds it; `importance` as in `Format.encode`."""

    stored: Weight
    format: Format
    importance: Float32 | None

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
        return self.format.rounded(self.stored.rows(start, stop), self.importance)
