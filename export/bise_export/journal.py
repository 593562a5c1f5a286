"""The journal of an export: which parts of an unfinished bundle are on disk, and the hashes that prove them.

One entry a line, `SHA256 JSON`, where the hash is of the JSON; the first binds the journal to what is exported. An
entry is on disk before `add` returns, and what it speaks of was before it. A kill can leave the last line short, which
is no damage: it says nothing, and is cut off.
"""

from __future__ import annotations

import fcntl
import json
import os
from hashlib import sha256
from pathlib import Path
from types import TracebackType

from bise_export.errors import ExportError

# Mistral Small 3's takes half a megabyte, most of it scales of the cache.
_LIMIT_BYTES = 64 << 20
_HASH_DIGITS = 64
_IDENTITY = "identity"


class Journal:
    """A journal file, locked while it is open; a killed process's lock goes with it.

    Args:
        path: where it lies, or will.
        identity: of what is exported: source, options, versions. Entries of any other are not taken over.

    Attributes:
        resumes: it was there before, of the same identity and undamaged.
        problem: why entries that were there are not trusted; empty if they are, or there were none.

    Raises:
        ExportError: another process holds it.
        OSError: the file can't be written.
    """

    def __init__(self, path: Path, identity: str) -> None:
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        self.resumes, self.problem = False, ""
        self._entries: dict[str, str] = {}
        try:
            self._lock()
            kept_bytes = self._read(identity)
            os.ftruncate(self._file, kept_bytes)
            os.lseek(self._file, 0, os.SEEK_END)
            if not kept_bytes:
                self.add(_IDENTITY, identity)
        except BaseException:
            os.close(self._file)
            raise

    def get(self, name: str) -> str | None:
        """What was said of `name`."""
        return self._entries.get(name)

    def add(self, name: str, value: str) -> None:
        """Says something of `name`; it is on disk when this returns. Called from one thread at a time."""
        line = _line(name, value)
        view = memoryview(line)
        while view:
            view = view[os.write(self._file, view) :]
        os.fsync(self._file)
        self._entries[name] = value

    def remove(self) -> None:
        """Its work is done, or in vain."""
        self._path.unlink(missing_ok=True)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ExportError(
                f"{self._path}: expected to be the only export to this place, got another that is running. "
                "Wait for it, end it, or choose another place."
            ) from None
        if not os.fstat(self._file).st_nlink:
            raise ExportError(f"{self._path}: another export to this place ended just now. Run this one again.")

    def _read(self, identity: str) -> int:
        """Takes the entries in, if they can be trusted; returns the bytes of the file that they are."""
        if os.fstat(self._file).st_size > _LIMIT_BYTES:
            self.problem = f"it is larger than {_LIMIT_BYTES} bytes"
            return 0
        with open(self._file, "rb", closefd=False) as stream:
            text = stream.read()
        whole = text[: text.rfind(b"\n") + 1]
        entries: dict[str, str] = {}
        for number, line in enumerate(whole.splitlines(), 1):
            entry = _parsed(line)
            if entry is None:
                self.problem = f"line {number} is damaged"
                return 0
            entries[entry[0]] = entry[1]
        if not entries:
            return 0
        if entries.pop(_IDENTITY, None) != identity:
            self.problem = "it is of another source, other options or another version of bise"
            return 0
        self._entries, self.resumes = entries, True
        return len(whole)


def _line(name: str, value: str) -> bytes:
    body = json.dumps([name, value]).encode("ascii")
    return sha256(body).hexdigest().encode("ascii") + b" " + body + b"\n"


def _parsed(line: bytes) -> tuple[str, str] | None:
    body = line[_HASH_DIGITS + 1 :]
    if sha256(body).hexdigest().encode("ascii") + b" " + body != line:
        return None
    name, value = json.loads(body)
    return str(name), str(value)
