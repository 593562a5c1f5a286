"""The safetensors format: 8 bytes of header length, a JSON header, then the tensors' bytes with no gaps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bise_export.errors import SourceError, UnsupportedError
from bise_export.sources.extent import Extent
from bise_export.sources.json_document import parse_json
from bise_export.sources.weight import Float32, Weight

_LENGTH_BYTES = 8
_HEADER_LIMIT_BYTES = 100_000_000  # the format's own limit
_MAX_DIMENSIONS = 8


class _ElementType(NamedTuple):
    size_bytes: int
    to_float32: Callable[[NDArray[np.uint8]], Float32]


def _from_bfloat16(data: NDArray[np.uint8]) -> Float32:
    # A bfloat16 is the upper half of a float32; shifted in place, so that no third copy is made.
    wide = data.view("<u2").astype(np.uint32)
    wide <<= 16
    return wide.view(np.float32)


_ELEMENT_TYPES: Mapping[str, _ElementType] = {
    "F32": _ElementType(4, lambda data: data.view("<f4")),
    "F16": _ElementType(2, lambda data: data.view("<f2").astype(np.float32)),
    "BF16": _ElementType(2, _from_bfloat16),
}


@dataclass(frozen=True, slots=True)
class SafetensorsWeight:
    """One tensor of a safetensors file."""

    shape: tuple[int, ...]
    dtype: str
    extent: Extent

    @property
    def file(self) -> Path:
        return self.extent.file

    def rows(self, start: int, stop: int) -> Float32:
        element = _ELEMENT_TYPES[self.dtype]
        row_shape = self.shape[1:]
        row_bytes = math.prod(row_shape) * element.size_bytes
        data = self.extent.read(start * row_bytes, stop * row_bytes)
        return element.to_float32(data).reshape(stop - start, *row_shape)


def read_safetensors(path: Path) -> dict[str, Weight]:
    """Every tensor of the file, by name; only the header is read.

    Raises:
        SourceError: the header is broken, or does not describe this file's bytes exactly.
        UnsupportedError: a tensor has an element type other than F32, F16, BF16.
    """
    try:
        size_bytes = path.stat().st_size
        with path.open("rb") as stream:
            header_bytes = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
            if not 2 <= header_bytes <= min(_HEADER_LIMIT_BYTES, size_bytes - _LENGTH_BYTES):
                raise SourceError(
                    f"{path}: expected a safetensors header of 2 to {_HEADER_LIMIT_BYTES} bytes within the file's "
                    f"{size_bytes}, got a length of {header_bytes}. It is cut short or of another kind; get it again."
                )
            header = parse_json(stream.read(header_bytes), f"{path}: header")
    except OSError as error:
        raise SourceError(f"{path}: {error}. Check that the file is there and readable.") from error
    header.pop("__metadata__", None)
    data_start = _LENGTH_BYTES + header_bytes
    weights = {name: _weight(path, name, entry, data_start) for name, entry in header.items()}
    _check_layout(path, weights, data_start, size_bytes)
    return dict(weights)


def _weight(path: Path, name: str, entry: object, data_start: int) -> SafetensorsWeight:
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(begin), int(end)]}:
            pass
        case _:
            raise SourceError(
                f"{path}: {name!r:.80}: expected dtype, shape and data_offsets, got {entry!r:.80}. Get the file again."
            )
    if len(shape) > _MAX_DIMENSIONS or not all(isinstance(size, int) and size >= 0 for size in shape):
        raise SourceError(f"{path}: {name!r:.80}: expected a shape, got {shape!r:.80}. Get the file again.")
    if dtype not in _ELEMENT_TYPES:
        raise UnsupportedError(
            f"{path}: {name!r:.80}: expected an element type of {', '.join(_ELEMENT_TYPES)}, got {dtype!r:.20}. "
            "Export the original float checkpoint."
        )
    size_bytes = math.prod(shape) * _ELEMENT_TYPES[dtype].size_bytes
    if begin < 0 or end - begin != size_bytes:
        raise SourceError(
            f"{path}: {name!r:.80}: expected {size_bytes} bytes for {dtype} {shape}, got offsets {begin} to {end}. "
            "Get the file again."
        )
    return SafetensorsWeight(tuple(shape), dtype, Extent(path, data_start + begin, size_bytes))


def _check_layout(path: Path, weights: Mapping[str, SafetensorsWeight], data_start: int, size_bytes: int) -> None:
    end = data_start
    for name, weight in sorted(weights.items(), key=lambda item: (item[1].extent.offset, item[1].extent.size_bytes)):
        if weight.extent.offset != end:
            raise SourceError(
                f"{path}: {name!r:.80}: expected its data at byte {end}, right after the tensor before it, "
                f"got {weight.extent.offset}. Tensors may not overlap or leave gaps; get the file again."
            )
        end += weight.extent.size_bytes
    if end != size_bytes:
        raise SourceError(f"{path}: expected {end} bytes by its header, got {size_bytes}. Get the file again.")
