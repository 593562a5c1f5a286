"""What to write when a configuration is tried, serves, fails, or the device starts. Pure: files in, writes out.

Each write replaces one file as a whole, and is on disk before the next begins. So a power cut leaves what some first
writes made of it, and wherever it comes, the next `start` finds a current configuration that is the good one or the one
on trial, and knows which.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum

from bise_daemon.state import UnfitError, sealed, unsealed

# A start that fails for a reason that passes, a full disk or a power cut, must not cost a good configuration its trial.
MAX_STARTS = 3


class File(StrEnum):
    """The files, by what is put behind the current one's name."""

    CURRENT = ""
    GOOD = ".good"
    PREVIOUS = ".previous"
    REFUSED = ".refused"
    RECORD = ".trial"


Files = Mapping[File, bytes | None]
"""What is in each file; None where there is none."""


@dataclass(frozen=True, slots=True)
class Write:
    """One file to be replaced."""

    file: File
    content: bytes


@dataclass(frozen=True, slots=True)
class Record:
    """How things stand.

    Attributes:
        candidate: SHA-256 of what is on trial, in hex; empty if nothing is.
        starts: of the daemon since it is.
        why: what became of the one before.
    """

    candidate: str = ""
    starts: int = 0
    why: str = ""

    @classmethod
    def parse(cls, content: bytes | None) -> Record:
        """The record in a file; a device that has none tried nothing yet.

        Raises:
            UnfitError: it is damaged.
        """
        if content is None:
            return cls()
        fields = json.loads(unsealed(content))
        if not isinstance(fields, dict) or fields.keys() != {"candidate", "starts", "why"}:
            raise UnfitError("expected candidate, starts and why")
        return cls(str(fields["candidate"]), int(fields["starts"]), str(fields["why"]))

    @property
    def write(self) -> Write:
        """Puts it on disk."""
        return Write(File.RECORD, sealed(json.dumps(asdict(self)).encode()))


def digest(content: bytes | None) -> str:
    """By which a record knows a configuration."""
    return hashlib.sha256(content).hexdigest() if content is not None else ""


def is_tried(files: Files) -> bool:
    """Whether the current configuration is on trial, or may be, where the record is damaged."""
    try:
        record = Record.parse(files[File.RECORD])
    except UnfitError:
        return files[File.CURRENT] != files[File.GOOD]
    return bool(record.candidate) and record.candidate == digest(files[File.CURRENT])


def begin(files: Files, candidate: bytes, *, is_sound: bool) -> list[Write]:
    """Puts a candidate on trial.

    Args:
        is_sound: whether the daemon accepts the current configuration; then, unless it is on trial, it is the good one.
    """
    current, good = files[File.CURRENT], files[File.GOOD]
    writes = []
    if is_tried(files):
        # Whoever tried it is gone. It must not be taken for good, nor for somebody's own.
        writes += back(files, "another was tried before it served")
    elif is_sound and current is not None and current != good:
        writes.append(Write(File.GOOD, current))
    return [*writes, Record(digest(candidate)).write, Write(File.CURRENT, candidate)]


def start(files: Files, *, is_sound: bool) -> list[Write]:
    """Before the daemon starts: counts the starts of what is on trial, and goes back when there were enough.

    Args:
        is_sound: whether the daemon accepts the current configuration.
    """
    try:
        record = Record.parse(files[File.RECORD])
    except UnfitError:
        return back(files, "nobody knows what was on trial: the record is damaged")
    if not is_sound:
        return back(files, "the daemon does not accept it")
    if not record.candidate:
        return []
    if record.candidate != digest(files[File.CURRENT]):
        # A power cut before the candidate was in place, or behind its removal; or somebody wrote one by hand since.
        return [Record(why=record.why).write]
    if record.starts >= MAX_STARTS:
        return back(files, f"it did not serve in {MAX_STARTS} starts")
    return [Record(record.candidate, record.starts + 1, record.why).write]


def served(files: Files) -> list[Write]:
    """What is current has served: it is the good one now."""
    current, good = files[File.CURRENT], files[File.GOOD]
    writes = []
    if current is not None and current != good:
        if good is not None:
            writes.append(Write(File.PREVIOUS, good))
        writes.append(Write(File.GOOD, current))
    # Why it went back is still to be seen when what it went back to serves.
    record = Record(why="" if writes else _why(files)).write
    return writes if record.content == files[File.RECORD] else [*writes, record]


def back(files: Files, why: str) -> list[Write]:
    """Goes back to the good one, and keeps the other to be looked at; nothing where there is no good one."""
    current, good = files[File.CURRENT], files[File.GOOD]
    if good is None:
        return []
    writes = []
    if current != good:
        if current is not None:
            writes.append(Write(File.REFUSED, current))
        writes.append(Write(File.CURRENT, good))
    return [*writes, Record(why=why).write]


def _why(files: Files) -> str:
    try:
        return Record.parse(files[File.RECORD]).why
    except UnfitError:
        return ""
