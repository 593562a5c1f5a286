"""Going on with an export that was killed: what it is bound to, what it left, and which of that is proved."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

from bise_export.contents import Matrix
from bise_export.journal import Journal
from bise_export.quant.store import Finished
from bise_export.sources.checkpoint import Checkpoint
from bise_export.writer import Layout, WeightFile

_TOOLS = ("bise", "numpy")


def identity(checkpoint: Checkpoint, layout: Layout, options: object) -> str:
    """A hash of all that decides a weight file's bytes: of another one, nothing that an earlier export left is used.

    Source files count by name, size and time of last change: hashing them would take as long as reading them.

    Args:
        options: those that decide bytes; its `repr` counts.
    """
    status = [(path.name, path.stat()) for path in checkpoint.files]
    parts = (
        [version(tool) for tool in _TOOLS],
        [checkpoint.kind, checkpoint.name, checkpoint.spec],
        [(name, each.st_size, each.st_mtime_ns) for name, each in status],
        options,
        layout.tensors(),
    )
    return sha256(repr(parts).encode()).hexdigest()


def clear(folder: Path, kept: str) -> int:
    """Removes all that an earlier export left in `folder` but the file `kept`; returns the bytes that takes on disk."""
    taken_bytes = 0
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name == kept and path.is_file() and not path.is_symlink():
            taken_bytes = path.stat().st_blocks * 512  # stat's unit on every system
        else:
            path.unlink()
    return taken_bytes


def recorder(file: WeightFile, journal: Journal) -> Finished:
    """For `store_matrices`: puts each matrix on disk, and its hash into the journal after that."""

    def record(matrix: Matrix) -> None:
        file.sync()
        journal.add(matrix.name, fingerprint(file, matrix))

    return record


def unproved(matrices: Iterable[Matrix], file: WeightFile, journal: Journal) -> tuple[list[Matrix], list[str]]:
    """The matrices that are still to be written, and the names of those that the journal has but the file has not."""
    missing: list[Matrix] = []
    damaged: list[str] = []
    for matrix in matrices:
        expected = journal.get(matrix.name)
        if expected is not None and expected == fingerprint(file, matrix):
            continue
        missing.append(matrix)
        if expected is not None:
            damaged.append(matrix.name)
    return missing, damaged


def fingerprint(file: WeightFile, matrix: Matrix) -> str:
    """The hash of what is stored of a matrix, read back from the file."""
    digest = sha256()
    for tensor in matrix.format.tensors(matrix.rows, matrix.columns):
        for piece in file.read(matrix.name + tensor.suffix):
            digest.update(piece)
    return digest.hexdigest()
