"""Publishing: a bundle grows in a folder of another name and appears whole, by one rename.

Beside `NAME` lie, while it grows, `.NAME.partial` and `.NAME.journal`. They stay when the process is killed or
interrupted, and the next export to the same place goes on with them if the journal says that they are of the same.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bise_export.errors import ExportError
from bise_export.journal import Journal


@dataclass(frozen=True, slots=True)
class Draft:
    """A bundle that grows.

    Attributes:
        folder: where; at first empty, or as an earlier export left it.
        journal: what of it is on disk.
        problem: why an earlier export's work was thrown away; empty if it was not.
    """

    folder: Path
    journal: Journal
    problem: str


@contextmanager
def published(target: Path, *, replace: bool, identity: str) -> Iterator[Draft]:
    """A draft to fill; becomes `target` at the end, disappears if anything failed, stays if that was an interrupt.

    Args:
        identity: of what is exported; see `Journal`.

    Raises:
        ExportError: `target` exists and may not be replaced, or is no bundle; or another export to it is running.
    """
    target = target.absolute()
    if target.exists() or target.is_symlink():
        _check_replaceable(target, replace=replace)
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = target.with_name(f".{target.name}.partial")
    with Journal(target.with_name(f".{target.name}.journal"), identity) as journal:
        try:
            yield _draft(folder, journal)
            folder.chmod(0o755)
            for path in (*folder.rglob("*"), folder):
                _sync(path)
            if target.exists():
                _swap(folder, target)
            else:
                folder.rename(target)
            _sync(target.parent)
        except Exception:
            shutil.rmtree(folder, ignore_errors=True)
            journal.remove()
            raise
        journal.remove()


def check_room(folder: Path, needed_bytes: int) -> None:
    """Refuses a bundle that the disk has no room for, before work is done.

    Raises:
        ExportError: with what is needed and what is free.
    """
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes:
        raise ExportError(
            f"{folder.parent}: the bundle needs {needed_bytes / 1e9:.2f} GB, {free_bytes / 1e9:.2f} GB are free. "
            "Free some, export elsewhere, or choose a lower precision."
        )


def _draft(folder: Path, journal: Journal) -> Draft:
    problem = journal.problem
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    if folder.exists() and not journal.resumes:
        problem = problem or "it has no journal"
        shutil.rmtree(folder)
    folder.mkdir(0o700, exist_ok=True)
    return Draft(folder, journal, problem)


def _check_replaceable(target: Path, *, replace: bool) -> None:
    if target.is_symlink():
        raise ExportError(
            f"{target}: expected a path where nothing is yet, got a symbolic link. Give the folder itself."
        )
    if not replace:
        raise ExportError(f"{target}: expected a path where nothing is yet. Choose another, or give --overwrite.")
    if not (target / "bundle.json").is_file():
        raise ExportError(f"{target}: --overwrite replaces bundles only, and this is none. Choose another path.")


def _swap(folder: Path, target: Path) -> None:
    """Puts the new folder in the place of the old; between the two renames the old one is beside it, whole."""
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    target.rename(old)
    try:
        folder.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
