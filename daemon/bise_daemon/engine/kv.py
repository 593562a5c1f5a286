"""The KV cache: address space for every slot's whole context, committed page by page as tokens arrive."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# Linux's value; the mmap module exports it only from Python 3.13 on.
_MAP_NORESERVE = 0x4000
# Linux's Documentation/admin-guide/mm/pagemap.rst: 64 bits a page, the highest for present, the next for swapped.
_PAGEMAP_ENTRY = np.dtype(np.uint64)
_PAGEMAP_SWAPPED = np.uint64(1 << 62)
_PAGEMAP_READ = 1 << 16  # entries at once: half a megabyte


@dataclass(frozen=True, slots=True)
class CacheShape:
    """The geometry of a cache. A slot's part of a buffer is contiguous, so any range of slots is one pointer."""

    num_layers: int
    kv_heads: int
    head_dim: int
    dtype: np.dtype[np.generic]
    slots: int
    context_tokens: int

    @property
    def bytes_per_token(self) -> int:
        """Keys and values of all layers."""
        return 2 * self.num_layers * self.kv_heads * self.head_dim * self.dtype.itemsize

    @property
    def buffer(self) -> tuple[int, int, int, int]:
        """[slots, kv_heads, capacity, head_dim]: one layer's keys, or its values."""
        return self.slots, self.kv_heads, self.context_tokens, self.head_dim


class KvCache:
    """The buffers of all layers. Memory is what tokens have touched; `release` gives it back to the system.

    Raises:
        OSError: the system refuses the address space.
    """

    def __init__(self, shape: CacheShape) -> None:
        self.shape = shape
        self._slot_bytes = int(np.prod(shape.buffer[1:])) * shape.dtype.itemsize
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
        buffer_bytes = -(-self._slot_bytes * shape.slots // mmap.PAGESIZE) * mmap.PAGESIZE
        try:
            self._maps = [mmap.mmap(-1, buffer_bytes, flags=flags) for _ in range(2 * shape.num_layers)]
        except OSError as error:
            raise OSError(
                f"expected {2 * shape.num_layers * buffer_bytes >> 20} MiB of address space for the cache, "
                f"got: {error.strerror}. Lower --slots or --context, or allow overcommit (vm.overcommit_memory)."
            ) from error
        for each in self._maps:
            with suppress(OSError):  # a kernel without huge pages
                # One huge page holds thousands of tokens: a short request would commit it whole, in every buffer.
                each.madvise(mmap.MADV_NOHUGEPAGE)
        self._arrays: list[NDArray[np.generic]] = [
            np.frombuffer(each, shape.dtype, int(np.prod(shape.buffer))).reshape(shape.buffer) for each in self._maps
        ]

    @property
    def reserved_bytes(self) -> int:
        """Address space, most of it never touched."""
        return sum(len(each) for each in self._maps)

    def rows(self, layer: int, part: int, first_slot: int, count: int) -> NDArray[np.generic]:
        """Slots of a layer's keys (`part` 0) or values (1): a view [count, kv_heads, capacity, head_dim]."""
        return self._arrays[2 * layer + part][first_slot : first_slot + count]

    def copy(self, source: int, target: int, tokens: int) -> None:
        """Brings the first `tokens` entries of a slot to another, over whatever that held.

        Where the target has pages already this runs at memory bandwidth (23 MB in 1.0 ms on 2 cores of an EPYC);
        where it has none, at the speed of page faults (in 10 ms), which asking for the pages beforehand does not mend.
        """
        for array in self._arrays:
            array[target, :, :tokens] = array[source, :, :tokens]

    def release(self, slot: int) -> None:
        """Returns a slot's pages to the system; those it shares with a neighbour's slot stay."""
        self._discard(slot * self._slot_bytes, (slot + 1) * self._slot_bytes)

    def release_beyond(self, slot: int, tokens: int) -> None:
        """Returns the pages behind a slot's first `tokens` entries; those that hold anything else stay."""
        head_bytes = self._slot_bytes // self.shape.kv_heads
        kept_bytes = tokens * self.shape.head_dim * self.shape.dtype.itemsize
        for head in range(self.shape.kv_heads):
            start = slot * self._slot_bytes + head * head_bytes
            self._discard(start + kept_bytes, start + head_bytes)

    def pieces(self, slot: int, tokens: int) -> Iterator[memoryview]:
        """The first `tokens` entries of a slot where they lie, to read from and to write to.

        Yields:
            Bytes of [tokens, head_dim]: by layer, keys before values, by head; `tokens * bytes_per_token` in all.
        """
        for array in self._arrays:
            for head in array[slot, :, :tokens]:
                yield memoryview(head).cast("B")

    def committed_bytes(self) -> int:
        """Memory the cache has now, swapped out or not; from any thread.

        A step touches the same pages in every buffer, so one buffer tells of all: 0.1 ms for SmolLM2's, 3 ms for a
        24B's, where smaps takes 2 ms for SmolLM2. (mincore is faster, but systemd's @system-service kills for it.)
        Layer 0 is written first, so a step that was given up halfway counts as whole.

        Raises:
            OSError: this kernel has no /proc/self/pagemap.
        """
        pages = len(self._maps[0]) // mmap.PAGESIZE
        first_page = self._arrays[0].ctypes.data // mmap.PAGESIZE
        committed = 0
        with Path("/proc/self/pagemap").open("rb", buffering=0) as pagemap:
            pagemap.seek(first_page * _PAGEMAP_ENTRY.itemsize)
            for start in range(0, pages, _PAGEMAP_READ):
                count = min(_PAGEMAP_READ, pages - start)
                entries = np.frombuffer(pagemap.read(count * _PAGEMAP_ENTRY.itemsize), _PAGEMAP_ENTRY)
                committed += int(np.count_nonzero(entries >= _PAGEMAP_SWAPPED))
        return committed * mmap.PAGESIZE * len(self._maps)

    def _discard(self, start: int, end: int) -> None:
        """Gives back the whole pages of a range of bytes in every buffer."""
        start = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
        # Nothing lies behind the last slot but what fills its last page.
        end = len(self._maps[0]) if end == self._arrays[0].nbytes else end // mmap.PAGESIZE * mmap.PAGESIZE
        if end > start:
            for each in self._maps:
                each.madvise(mmap.MADV_DONTNEED, start, end - start)
