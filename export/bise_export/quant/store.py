"""Streams a checkpoint's weights into the weight file: read some rows, encode, write, on all cores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

import numpy as np

from bise_export.contents import Matrix, Vector
from bise_export.sources.weight import Float32, Weight
from bise_export.writer import WeightFile

# Rows in flight per thread, as float32: large enough for long sequential reads, small beside any memory.
_CHUNK_BYTES = 8 << 20

Advance = Callable[[int], None]


def store_matrices(
    matrices: Iterable[Matrix],
    weights: Mapping[str, Weight],
    file: WeightFile,
    threads: int,
    advance: Advance,
) -> None:
    """Writes every matrix. Memory stays under `threads` chunks and what encoding them takes.

    Args:
        advance: told the count of parameters each time some are written.
    """
    with ThreadPoolExecutor(threads) as pool:
        pending: set[Future[int]] = set()
        try:
            for matrix in matrices:
                for first_row, weight, start, stop in _pieces(matrix, weights):
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
    """Writes every norm's gain."""
    for vector in vectors:
        file.write(vector.name, weights[vector.name].rows(0, vector.size).astype(dtype))


def _pieces(matrix: Matrix, weights: Mapping[str, Weight]) -> Iterator[tuple[int, Weight, int, int]]:
    """(first row in the matrix, weight, first row in the weight, its end), a chunk each."""
    first_row = 0
    step = max(1, _CHUNK_BYTES // (4 * matrix.columns))
    for part in matrix.parts:
        weight = weights[part]
        rows = weight.shape[0]
        for start in range(0, rows, step):
            yield first_row + start, weight, start, min(start + step, rows)
        first_row += rows


def _store(matrix: Matrix, file: WeightFile, first_row: int, weight: Weight, start: int, stop: int) -> int:
    values: Float32 = weight.rows(start, stop)
    stored = matrix.format.tensors(matrix.rows, matrix.columns)
    for tensor, encoded in zip(stored, matrix.format.encode(values), strict=True):
        file.write(matrix.name + tensor.suffix, encoded, first_row)
    return values.size
