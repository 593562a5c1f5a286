"""Publishing: a bundle grows in a folder of another name and appears whole, by one rename."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bise_export.errors import ExportError


@contextmanager
def published(target: Path, *, replace: bool) -> Iterator[Path]:
    """A new folder to fill; becomes `target` at the end, or disappears if anything failed.

    Raises:
        ExportError: `target` exists and may not be replaced, or is no bundle.
    """
    target = target.absolute()
    if target.exists() or target.is_symlink():
        _check_replaceable(target, replace=replace)
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
    try:
        yield folder
        folder.chmod(0o755)
        for path in (*folder.rglob("*"), folder):
            _sync(path)
        if target.exists():
            _swap(folder, target)
        else:
            folder.rename(target)
        _sync(target.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
