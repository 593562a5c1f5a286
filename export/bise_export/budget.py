"""The memory an export may take: how a person says it, what it leaves for pieces of work, and whether it is kept."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from pathlib import Path

from bise_export.errors import ExportError
from bise_export.page import size

_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) *(?:([KMGT])(i?))?B?", re.IGNORECASE)
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}
_STATM = Path("/proc/self/statm")

# Rows a thread works on, as float32: large enough for long sequential reads, small enough for many threads.
_PIECE_BYTES = 8 << 20
_PIECES_BYTES = 32 << 20
_SMALLEST_PIECE_BYTES = 1 << 20
# What a thread holds for each byte of its piece, counted by tracemalloc: bfloat16 2.0 with rows in another order, Q4_1
# 2.3, GGUF's bfloat16 2.5; the rest is for the quantizer's panel and the allocator's slack.
_HELD_PER_BYTE = 4


def parse_size(text: str, option: str) -> int:
    """Bytes of a size as a person writes it: "4GiB", "500 MB", "1073741824".

    Raises:
        ExportError: it is none.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ExportError(
            f"{option}: expected a size such as 4GiB or 500MB, got {text!r:.40}. Write a number and a unit."
        )
    number, unit, binary = found.groups()
    return int(float(number) * (1024 if binary else 1000) ** _POWERS[(unit or "").upper()])


def resident_bytes() -> int:
    """What this process holds in memory by the kernel's account; 0 where the kernel does not tell.

    Raises:
        OSError: the kernel's account can't be read.
    """
    if not _STATM.exists():
        return 0
    return int(_STATM.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Pieces:
    """How the work is cut: so many threads, each with so many bytes of rows as float32 at a time."""

    threads: int
    piece_bytes: int

    @property
    def held_bytes(self) -> int:
        """What one thread holds at most."""
        return _HELD_PER_BYTE * self.piece_bytes


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The most memory the process may hold; without a cap there is always room.

    Attributes:
        resident: tells what it holds now.
    """

    cap_bytes: float = inf
    resident: Callable[[], int] = resident_bytes

    def room_bytes(self) -> float:
        """What may still be taken."""
        return self.cap_bytes - self.resident()

    def pieces(self, threads: int, head_bytes: int) -> Pieces:
        """The largest pieces, of as many of `threads` as there is room for, with room for one piece to spare.

        Args:
            head_bytes: one attention head's rows as float32, the least that is read of a rotated projection.

        Raises:
            ExportError: there is no room even for one thread with the smallest piece.
        """
        smallest = max(_SMALLEST_PIECE_BYTES, head_bytes)
        largest = max(smallest, min(_PIECE_BYTES, _PIECES_BYTES // threads))
        room_bytes = self.room_bytes()
        for count in range(threads, 0, -1):
            fitting = room_bytes / (_HELD_PER_BYTE * (count + 1))
            if fitting >= smallest:
                return Pieces(count, int(min(largest, fitting)))
        raise self.too_low(2 * _HELD_PER_BYTE * smallest, "to quantize")

    def check(self, needed_bytes: int, purpose: str, otherwise: str = "") -> None:
        """Refuses what there is no room for.

        Raises:
            ExportError: `needed_bytes` more would be beyond the cap; the message has the numbers.
        """
        if self.room_bytes() < needed_bytes:
            raise self.too_low(needed_bytes, purpose, otherwise)

    def too_low(self, needed_bytes: int, purpose: str, otherwise: str = "") -> ExportError:
        """The refusal of a cap that leaves too little."""
        held_bytes = self.resident()
        enough = -(-(held_bytes + needed_bytes) // (1 << 20)) + 1
        return ExportError(
            f"--max-memory {size(self.cap_bytes)}: expected at least {enough} MiB, {size(held_bytes)} that are held "
            f"already and {size(needed_bytes)} {purpose}. Give --max-memory {enough}MiB{otherwise}."
        )


UNLIMITED = Ceiling()
