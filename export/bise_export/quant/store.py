"""Streams a checkpoint's weights into the weight file: read some rows, encode, write, on all cores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager

import numpy as np

from bise_export.contents import Matrix, Vector
from bise_export.errors import ExportError
from bise_export.quant.formats import narrowed
from bise_export.sources.weight import Float32, Weight
from bise_export.writer import WeightFile

# Rows a thread works on, as float32: large enough for long sequential reads. Decoding and encoding take three times as
# much on top, so many threads work on less each.
_CHUNK_BYTES = 8 << 20
_CHUNKS_BYTES = 32 << 20

Advance = Callable[[int], None]


def store_matrices(
    matrices: Iterable[Matrix],
    weights: Mapping[str, Weight],
    file: WeightFile,
    threads: int,
    advance: Advance,
) -> None:
    """Writes every matrix. Memory stays under some 100 MB, whatever the size of a tensor and however many threads.

    Args:
        advance: told the count of parameters each time some are written.
    """
    chunk_bytes = min(_CHUNK_BYTES, _CHUNKS_BYTES // threads)
    with ThreadPoolExecutor(threads) as pool:
        pending: set[Future[int]] = set()
        try:
            for matrix in matrices:
                for first_row, weight, start, stop in _pieces(matrix, weights, chunk_bytes):
                    if len(pending) >= 2 * threads:
                        done, pending = wait(pending, return_when=FIRST_COMPLETED)
                        for each in done:
                            advance(each.result())
                    pending.add(pool.submit(_store, matrix, file, first_row, weight, start, stop))
            for each in pending:
                advance(each.result())
        finally:
            pool.shutdown(cancel_futures=True)


def store_vectors(
    vectors: Iterable[Vector], weights: Mapping[str, Weight], dtype: np.dtype[np.floating], file: WeightFile
) -> None:
    """Writes every norm's gain and every bias."""
    for vector in vectors:
        first = 0
        for part in vector.parts:
            weight = weights[part]
            values = weight.rows(0, weight.shape[0])
            with _named(vector.name, weight):
                stored = narrowed(values, dtype)
            file.write(vector.name, stored, first)
            first += weight.shape[0]


def _pieces(matrix: Matrix, weights: Mapping[str, Weight], chunk_bytes: int) -> Iterator[tuple[int, Weight, int, int]]:
    """(first row in the matrix, weight, first row in the weight, its end), a chunk each."""
    first_row = 0
    step = max(1, chunk_bytes // (4 * matrix.columns))
    for part in matrix.parts:
        weight = weights[part]
        rows = weight.shape[0]
        for start in range(0, rows, step):
            yield first_row + start, weight, start, min(start + step, rows)
        first_row += rows


def _store(matrix: Matrix, file: WeightFile, first_row: int, weight: Weight, start: int, stop: int) -> int:
    values: Float32 = weight.rows(start, stop)
    stored = matrix.format.tensors(matrix.rows, matrix.columns)
    with _named(matrix.name, weight):
        arrays = matrix.format.encode(values)
    for tensor, encoded in zip(stored, arrays, strict=True):
        file.write(matrix.name + tensor.suffix, encoded, first_row)
    return values.size


@contextmanager
def _named(name: str, weight: Weight) -> Iterator[None]:
    """Puts the file and the weight before what is said of its numbers."""
    try:
        yield
    except ExportError as error:
        raise ExportError(f"{weight.file}: {name}: {error}") from error
