"""A stretch of bytes in a file, read piece by piece: no mapping, so what was read does not stay resident."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bise_export.errors import SourceError


@dataclass(frozen=True, slots=True)
class Extent:
    """`size_bytes` bytes of `file` from `offset` on. The file is opened for each read, so none is held open."""

    file: Path
    offset: int
    size_bytes: int

    def read(self, start: int, stop: int) -> NDArray[np.uint8]:
        """The bytes `start` to `stop`, counted from the extent's own start, as uint8 [stop - start].

        Raises:
            SourceError: the file can't be read, or ends early.
        """
        assert 0 <= start <= stop <= self.size_bytes, (start, stop, self.size_bytes)
        try:
            data = np.fromfile(self.file, np.uint8, stop - start, offset=self.offset + start)
        except OSError as error:
            raise SourceError(f"{self.file}: {error}. Check that the file is there and readable.") from error
        if data.size != stop - start:
            raise SourceError(
                f"{self.file}: expected {stop - start} bytes at offset {self.offset + start}, got {data.size}. "
                "It was cut short since it was opened; get the file again."
            )
        return data
