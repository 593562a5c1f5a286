"""The KV cache: address space for every slot's whole context, committed page by page as tokens arrive."""

from __future__ import annotations

import mmap
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Linux's value; the mmap module exports it only from Python 3.13 on.
_MAP_NORESERVE = 0x4000


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

    def move(self, source: int, target: int, tokens: int) -> None:
        """Copies the first `tokens` entries of a slot to another and releases the first."""
        for array in self._arrays:
            array[target, :, :tokens] = array[source, :, :tokens]
        self.release(source)

    def release(self, slot: int) -> None:
        """Returns a slot's pages to the system; those it shares with a neighbour's slot stay."""
        start = -(-slot * self._slot_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        end = (slot + 1) * self._slot_bytes // mmap.PAGESIZE * mmap.PAGESIZE
        if slot == self.shape.slots - 1:
            end = len(self._maps[0])
        if end > start:
            for each in self._maps:
                each.madvise(mmap.MADV_DONTNEED, start, end - start)
