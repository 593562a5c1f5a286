"""Who can change a folder: what was checked in it is used later, and must be the same then."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from bise_proto.bundle import SignatureError

_WRITE_OF_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def check_contents(folder: Path) -> None:
    """Proves that only root and the daemon's user can change `folder` and what is in it, or put another in its place.

    Args:
        folder: without links in it and on the way to it.

    Raises:
        SignatureError: somebody else can.
    """
    for path in sorted(folder.rglob("*")):
        _check(path, path.lstat(), _WRITE_OF_OTHERS)
    check_place(folder)


def check_place(folder: Path) -> None:
    """As `check_contents`, of the entries of `folder` but not of what they hold.

    Raises:
        SignatureError: somebody else can add, remove or replace them.
    """
    _check(folder, folder.lstat(), _WRITE_OF_OTHERS)
    for path in folder.parents:
        status = path.lstat()
        # In a sticky folder, such as /tmp, others can add entries, but not replace ours.
        _check(path, status, 0 if status.st_mode & stat.S_ISVTX else _WRITE_OF_OTHERS)


def _check(path: Path, status: os.stat_result, forbidden: int) -> None:
    if status.st_uid not in (0, os.geteuid()) or status.st_mode & forbidden:
        raise SignatureError(
            f"{path}: expected that only root and user {os.geteuid()}, the daemon's, can change it, got owner "
            f"{status.st_uid} and mode {stat.S_IMODE(status.st_mode):o}: what is checked there could be changed before "
            "it is used. Mend that with `chown root` and `chmod go-w`."
        )
