"""Puts files into a tree and takes them out again: all of them, or none."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from bise_daemon.deploy.placement import Placement
from bise_daemon.state import replacing

_MODE = 0o644


class Installation:
    """The files below a root.

    Args:
        placed: in the order in which they are written; they are removed in the other.
        root: of the tree; `/`, or an image's.
    """

    def __init__(self, placed: Sequence[Placement], root: Path) -> None:
        self._placed = placed
        self._root = root

    def install(self) -> list[str]:
        """Writes what is missing or different; returns what was done, a line for each file.

        Raises:
            OSError: a file can't be written. All are as they were, then.
        """
        done = []
        with self._all_or_none():
            for each in self._placed:
                path = each.below(self._root)
                before = _content(path)
                if before == each.content or (each.is_setting and before is not None):
                    done.append(f"{path}: {'unchanged' if before == each.content else 'kept as it is'}")
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                _write(path, each.content)
                done.append(f"{path}: {'installed' if before is None else 'updated'}")
        return done

    def uninstall(self) -> list[str]:
        """Removes what is there; returns what was done, a line for each file. Settings that were changed stay.

        Raises:
            OSError: a file can't be removed. All are as they were, then.
        """
        done = []
        with self._all_or_none():
            for each in reversed(self._placed):
                path = each.below(self._root)
                before = _content(path)
                if before is None or (each.is_setting and before != each.content):
                    done.append(f"{path}: {'not there' if before is None else 'kept, since it was changed'}")
                    continue
                path.unlink()
                if each.is_setting:
                    with suppress(OSError):  # others' files are in there
                        path.parent.rmdir()
                done.append(f"{path}: removed")
        return done

    @contextmanager
    def _all_or_none(self) -> Iterator[None]:
        paths = [each.below(self._root) for each in self._placed]
        before = {path: _content(path) for path in paths}
        try:
            yield
        except OSError:
            for path, content in before.items():
                with suppress(OSError):  # what can't be written now could not be before, so it is as it was
                    _restore(path, content)
            raise


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _restore(path: Path, content: bytes | None) -> None:
    if _content(path) == content:
        return
    if content is None:
        path.unlink()
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, content)


def _write(path: Path, content: bytes) -> None:
    with replacing(path) as file:
        file.write(content)
        os.fchmod(file.fileno(), _MODE)
