"""The C library's memory, told to keep what is freed while many large pieces follow each other."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Parameters of glibc's mallopt (malloc.h).
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_KEPT_BYTES = (1 << 31) - 1
# Where glibc's own adaption ends: pieces beyond are mapped, and twice that may stay free at the end.
_DEFAULT_MMAP_BYTES = 32 << 20


@contextmanager
def reused_memory() -> Iterator[None]:
    """Lets large pieces take the pages of those before; in the end all that is free goes back to the system.

    Otherwise each is mapped anew: 60 % of the time onnxruntime takes to pack weights at load is the kernel's, for
    clearing pages (perf, blocks of 128). Does nothing where the C library is another.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is None or not hasattr(libc, "mallopt") or not hasattr(libc, "malloc_trim"):
        yield
        return
    libc.mallopt(_ARENA_MAX, 1)  # others than the first can't grow that far
    libc.mallopt(_MMAP_THRESHOLD, _KEPT_BYTES)
    libc.mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
    try:
        yield
    finally:
        libc.mallopt(_MMAP_THRESHOLD, _DEFAULT_MMAP_BYTES)
        libc.mallopt(_TRIM_THRESHOLD, 2 * _DEFAULT_MMAP_BYTES)
        libc.malloc_trim(0)
