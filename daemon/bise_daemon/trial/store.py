"""The configuration file, and beside it what a trial needs, on disk."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bise_daemon.config.document import MAX_FILE_BYTES
from bise_daemon.config.load import load_config
from bise_daemon.config.problem import ConfigError
from bise_daemon.state import replacing
from bise_daemon.trial.machine import File, Files, Write


class BusyError(RuntimeError):
    """Another process tries a configuration."""


class Store:
    """Files by what they are for.

    Args:
        path: the configuration that the daemon reads.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def place(self, file: File) -> Path:
        """Where it is."""
        return self.path.with_name(f"{self.path.name}{file}")

    def files(self) -> Files:
        """What is in each of them."""
        return {file: self._read(file) for file in File}

    @property
    def is_sound(self) -> bool:
        """Whether the daemon accepts the current configuration."""
        try:
            load_config(self.path)
        except ConfigError:
            return False
        return True

    def carry_out(self, writes: Iterable[Write]) -> None:
        """Replaces files in this order, each safely on disk before the next."""
        for write in writes:
            with replacing(self.place(write.file)) as file:
                os.fchmod(file.fileno(), 0o644)  # read by a daemon that is another user
                file.write(write.content)

    def clean_up(self) -> None:
        """Removes what replacements left that were cut off."""
        for left in self.path.parent.glob(f"{self.path.name}*.part"):
            left.unlink(missing_ok=True)

    @contextmanager
    def trying(self) -> Iterator[None]:
        """Nobody else tries a configuration within the block; starts are counted all the same.

        Raises:
            BusyError: somebody does.
        """
        with self.path.with_name(f"{self.path.name}.lock").open("wb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BusyError(f"{self.path}: another process tries a configuration. Wait until it is done.") from None
            yield

    def _read(self, file: File) -> bytes | None:
        try:
            with self.place(file).open("rb") as stream:
                return stream.read(MAX_FILE_BYTES + 1)
        except FileNotFoundError:
            return None
