"""Freed memory is used again within the block, and given back behind it."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import pytest

from bise_daemon.engine.allocation import reused_memory

PIECE_BYTES = 64 << 20
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="glibc")


def faults() -> int:
    """Pages this process had to be given, so far."""
    return int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[7])


def take_and_free() -> int:
    """Pages given for a piece of memory that is written to and freed."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    before = faults()
    piece = libc.malloc(PIECE_BYTES)
    ctypes.memset(piece, 1, PIECE_BYTES)
    libc.free(piece)
    return faults() - before


def test_the_second_piece_takes_the_pages_of_the_first() -> None:
    with reused_memory():
        first, second = take_and_free(), take_and_free()
    assert second < first / 10
    assert take_and_free() > first / 2, "given back"


def test_an_error_leaves_it_as_well() -> None:
    with pytest.raises(RuntimeError), reused_memory():
        raise RuntimeError
    take_and_free()
    assert take_and_free() > PIECE_BYTES // (2 << 20)
