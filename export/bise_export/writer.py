"""The weight file: every tensor's place is known before the first byte, so parts are written in any order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from bise_export.errors import ExportError

# onnxruntime maps external data by page; a tensor on a page of its own is used in place.
ALIGNMENT_BYTES = 4096
_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a tensor lies in the weight file."""

    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    offset: int

    @property
    def size_bytes(self) -> int:
        """Bytes the tensor takes."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


class Layout:
    """The table of contents of a weight file, filled while the graph is built."""

    def __init__(self) -> None:
        self._tensors: dict[str, Placed] = {}
        self.size_bytes = 0

    def place(self, name: str, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> Placed:
        """Gives a new tensor its place; the name must be new."""
        placed = Placed(name, dtype, shape, -(-self.size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES)
        self._add(placed)
        self.size_bytes = placed.offset + placed.size_bytes
        return placed

    def alias(self, name: str, of: str, shape: tuple[int, ...]) -> Placed:
        """Names the bytes of another tensor a second time, in another shape of the same size."""
        original = self._tensors[of]
        placed = Placed(name, original.dtype, shape, original.offset)
        assert placed.size_bytes == original.size_bytes, (placed, original)
        self._add(placed)
        return placed

    def __getitem__(self, name: str) -> Placed:
        return self._tensors[name]

    def tensors(self) -> tuple[Placed, ...]:
        """All of them, in the order in which they got their places."""
        return tuple(self._tensors.values())

    def _add(self, placed: Placed) -> None:
        assert placed.name not in self._tensors, placed.name
        self._tensors[placed.name] = placed


class WeightFile:
    """A weight file being written. Bytes go to their place with `pwrite`: safe from several threads, nothing buffered.

    Args:
        resumes: the file may be there, and what is in it stays.

    Raises:
        ExportError: the disk is full (found when the file is opened, before any work) or failed.
    """

    def __init__(self, path: Path, layout: Layout, *, resumes: bool = False) -> None:
        self._layout = layout
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | (0 if resumes else os.O_EXCL), 0o644)
        try:
            if layout.size_bytes:
                os.posix_fallocate(self._file, 0, layout.size_bytes)
        except OSError as error:
            os.close(self._file)
            raise self._failed(layout.size_bytes, error) from error

    def write(self, name: str, values: NDArray[np.generic], first_row: int = 0) -> None:
        """Writes rows of a tensor, starting at `first_row`; within a row only the order of elements counts."""
        placed = self._layout[name]
        row_bytes = placed.size_bytes // placed.shape[0]
        assert values.dtype == placed.dtype, (placed, values.dtype)
        assert values.nbytes == len(values) * row_bytes, (placed, values.shape)
        assert first_row + len(values) <= placed.shape[0], (placed, first_row, values.shape)
        view = np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
        offset = placed.offset + first_row * row_bytes
        while view:
            try:
                written = os.pwrite(self._file, view, offset)
            except OSError as error:
                raise self._failed(len(view), error) from error
            view, offset = view[written:], offset + written

    def read(self, name: str) -> Iterator[bytes]:
        """The bytes of a tensor as they are in the file, some at a time."""
        placed = self._layout[name]
        end = placed.offset + placed.size_bytes
        for offset in range(placed.offset, end, _READ_BYTES):
            yield os.pread(self._file, min(_READ_BYTES, end - offset), offset)

    def sync(self) -> None:
        """Returns when all that was written is on disk."""
        try:
            os.fdatasync(self._file)
        except OSError as error:
            raise self._failed(self._layout.size_bytes, error) from error

    def __enter__(self) -> WeightFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                os.fsync(self._file)
        finally:
            os.close(self._file)

    def _failed(self, size_bytes: int, error: OSError) -> ExportError:
        return ExportError(
            f"{self._path}: expected room for {size_bytes} bytes, got: {error.strerror}. "
            "Free some space or export elsewhere."
        )
