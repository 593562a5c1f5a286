"""Files of the daemon's own on disk: replaced whole, sealed against damage, read only where nobody else wrote them."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, BufferedWriter
from pathlib import Path


class UnfitError(ValueError):
    """A file is not what it should be."""


@contextmanager
def own_file(path: Path) -> Iterator[BufferedReader]:
    """Opens a file for reading that is ours and plain; a link or a pipe is not.

    Raises:
        UnfitError: others could have written it.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UnfitError("expected a plain file, got something else")
        if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise UnfitError("expected a file only the daemon's user can write, got one of others")
        yield file


@contextmanager
def replacing(path: Path) -> Iterator[BufferedWriter]:
    """Opens a new file that takes the place of `path`, safely on disk, when the block ends well."""
    descriptor, name = tempfile.mkstemp(".part", f"{path.name}.", path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
        os.replace(name, path)  # noqa: PTH105 - of two names
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def sealed(body: bytes) -> bytes:
    """A line, below its SHA-256."""
    return b"%s\n%s\n" % (_digest(body), body)


def unsealed(content: bytes) -> bytes:
    """The line that was sealed.

    Raises:
        UnfitError: content is not as it was sealed.
    """
    digest, _, body = content.rstrip(b"\n").partition(b"\n")
    if digest != _digest(body):
        raise UnfitError("expected its first line to be the SHA-256 of its second, as it was saved")
    return body


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()
