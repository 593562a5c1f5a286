"""Batches that wait on disk for a receiver: few bytes, oldest dropped first, whole or not at all."""

from __future__ import annotations

import hashlib
import logging
import re
from dataclasses import dataclass
from pathlib import Path

from bise_daemon.state import UnfitError, own_file, replacing

logger = logging.getLogger(__name__)

_NAME = re.compile(r"(\d{16})\.([a-z]{1,16})")
_PART = re.compile(r"\d{16}\.[a-z]{1,16}\..*\.part")
_DIGEST_BYTES = hashlib.sha256().digest_size


@dataclass(frozen=True, slots=True)
class Batch:
    """What is sent at once.

    Attributes:
        signal: `metrics` or `traces`.
        body: the request, compressed as it is sent.
    """

    signal: str
    body: bytes


class Spool:
    """A folder of batches, each a file that begins with its SHA-256. Belongs to one thread.

    Args:
        folder: made if it is not there; what else is in it is left alone. Without one, adding fails.
        most_bytes: of all batches together; a single one beyond it is dropped at once.

    Attributes:
        size_bytes: of all that waits; any thread may read it.
        dropped: batches lost for want of room, or found damaged.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._sizes: dict[str, int] = {}
        self.dropped = 0
        for path in _entries(folder):
            if _PART.fullmatch(path.name):
                path.unlink(missing_ok=True)  # a write that a power cut ended
            elif _NAME.fullmatch(path.name):
                self._sizes[path.name] = path.lstat().st_size
        self.size_bytes = sum(self._sizes.values())
        self._next = 1 + max((int(name[:16]) for name in self._sizes), default=0)
        self._make_room(0)

    def add(self, batch: Batch) -> None:
        """Keeps a batch, behind those that wait.

        Raises:
            OSError: the disk does not take it.
        """
        size_bytes = _DIGEST_BYTES + len(batch.body)
        if size_bytes > self._most_bytes:
            self.dropped += 1
            return
        self._make_room(size_bytes)
        name = f"{self._next:016}.{batch.signal}"
        self._next += 1
        with replacing(self._folder / name) as file:
            file.write(hashlib.sha256(batch.body).digest())
            file.write(batch.body)
        self._sizes[name] = size_bytes
        self.size_bytes += size_bytes

    def oldest(self) -> Batch | None:
        """The batch that has waited longest; damaged ones before it are removed with a warning."""
        while self._sizes:
            name = next(iter(self._sizes))
            try:
                with own_file(self._folder / name) as file:
                    content = file.read(self._most_bytes + 1)
                if content[:_DIGEST_BYTES] != hashlib.sha256(content[_DIGEST_BYTES:]).digest():
                    raise UnfitError("expected it to begin with the SHA-256 of the rest, as it was written")
            except (OSError, UnfitError) as error:
                logger.warning("telemetry that waited on disk is lost: %s: %s", self._folder / name, error)
                self._remove(name)
                self.dropped += 1
                continue
            return Batch(name.partition(".")[2], content[_DIGEST_BYTES:])
        return None

    def remove_oldest(self) -> None:
        """The batch that `oldest` gave is delivered."""
        self._remove(next(iter(self._sizes)))

    def _make_room(self, size_bytes: int) -> None:
        while self._sizes and self.size_bytes + size_bytes > self._most_bytes:
            self._remove(next(iter(self._sizes)))
            self.dropped += 1

    def _remove(self, name: str) -> None:
        self.size_bytes -= self._sizes.pop(name)
        try:
            (self._folder / name).unlink(missing_ok=True)
        except OSError as error:
            logger.warning("can't remove %s: %s", self._folder / name, error)


def _entries(folder: Path) -> list[Path]:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return sorted(folder.iterdir())
    except OSError as error:
        logger.warning("telemetry can't wait on disk: %s", error)
        return []
