"""Streams a checkpoint's weights into the weight file: read some rows, encode, write, on all cores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager

import numpy as np

from bise_export.budget import UNLIMITED, Ceiling, Pieces
from bise_export.contents import Matrix, Vector
from bise_export.errors import ExportError
from bise_export.quant.formats import Importance, narrowed
from bise_export.sources.weight import Float32, Weight
from bise_export.writer import WeightFile

Advance = Callable[[int], None]
Finished = Callable[[Matrix], None]
_NONE: Mapping[str, Importance] = {}


def _nothing(_matrix: Matrix) -> None:
    """Nobody keeps a journal."""


def store_matrices(
    matrices: Iterable[Matrix],
    weights: Mapping[str, Weight],
    file: WeightFile,
    pieces: Pieces,
    advance: Advance,
    *,
    importance: Mapping[str, Importance] = _NONE,
    ceiling: Ceiling = UNLIMITED,
    finished: Finished = _nothing,
) -> None:
    """Writes every matrix, in pieces. The bytes do not depend on how it is cut.

    Args:
        importance: by a matrix's name, what errors in its columns cost; see `Format.encode`.
        advance: told the count of parameters each time some are written.
        ceiling: where there is no more room for a piece, pieces go one by one.
        finished: told each matrix once all of it is written, in a thread of its own that may take its time.

    Raises:
        ExportError: a number can't be stored, the disk is full, or the ceiling is reached by something else.
    """
    with ThreadPoolExecutor(pieces.threads) as pool, ThreadPoolExecutor(1) as aside:
        pending: dict[Future[int], Matrix] = {}
        told: list[Future[None]] = []
        unwritten: dict[str, int] = {}

        def settle(done: Iterable[Future[int]]) -> None:
            for each in done:
                matrix, count = pending.pop(each), each.result()
                advance(count)
                unwritten[matrix.name] -= count
                if not unwritten[matrix.name]:
                    told.append(aside.submit(finished, matrix))
            while told and told[0].done():
                told.pop(0).result()

        try:
            for matrix in matrices:
                unwritten[matrix.name] = matrix.rows * matrix.columns
                columns = importance.get(matrix.name)
                for first_row, weight, start, stop in _pieces(matrix, weights, pieces.piece_bytes):
                    while len(pending) >= _waiting(pieces, ceiling):
                        settle(wait(pending, return_when=FIRST_COMPLETED).done)
                    ceiling.check(0 if pending else pieces.held_bytes, "for one piece of a matrix")
                    pending[pool.submit(_store, matrix, columns, file, first_row, weight, start, stop)] = matrix
            settle(wait(pending).done)
            for each in told:
                each.result()
        finally:
            pool.shutdown(cancel_futures=True)
            aside.shutdown()  # what is written already need not be written again


def _waiting(pieces: Pieces, ceiling: Ceiling) -> int:
    """Pieces that may be handed out at once: enough that no thread waits, or one where memory is short."""
    return 2 * pieces.threads if ceiling.room_bytes() >= pieces.held_bytes else 1


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
    for weight in matrix.stored(weights):
        rows = weight.shape[0]
        for start in range(0, rows, step):
            yield first_row + start, weight, start, min(start + step, rows)
        first_row += rows


def _store(
    matrix: Matrix,
    importance: Importance | None,
    file: WeightFile,
    first_row: int,
    weight: Weight,
    start: int,
    stop: int,
) -> int:
    values: Float32 = weight.rows(start, stop)
    stored = matrix.format.tensors(matrix.rows, matrix.columns)
    with _named(matrix.name, weight):
        arrays = matrix.format.encode(values, importance)
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
