"""The cache's memory: what is copied, what comes back, and what was never there."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from pathlib import Path

import numpy as np
import pytest

from bise_daemon.engine import kv
from bise_daemon.engine.kv import CacheShape, KvCache

_libc = ctypes.CDLL(None, use_errno=True)


def resident_bytes(cache: KvCache) -> int:
    """What of the cache is in memory, as the kernel has it."""
    pages = 0
    for layer in range(cache.shape.num_layers):
        for part in (0, 1):
            view = cache.rows(layer, part, 0, cache.shape.slots)
            size = -(-view.nbytes // mmap.PAGESIZE)
            found = (ctypes.c_ubyte * size)()
            address = ctypes.c_void_p(view.ctypes.data)
            assert _libc.mincore(address, ctypes.c_size_t(view.nbytes), found) == 0, os.strerror(ctypes.get_errno())
            pages += sum(page & 1 for page in found)
    return pages * mmap.PAGESIZE


def make(dtype: str = "int8", slots: int = 3, context: int = 64, heads: int = 2, dim: int = 128) -> KvCache:
    return KvCache(CacheShape(2, heads, dim, np.dtype(dtype), slots, context))


def fill(cache: KvCache, slot: int, tokens: int, seed: int) -> list[np.ndarray]:
    """Random entries in a slot; returns what was written, for `held`."""
    random = np.random.default_rng(seed)
    for layer in range(cache.shape.num_layers):
        for part in (0, 1):
            view = cache.rows(layer, part, slot, 1)
            view[:, :, :tokens] = random.integers(1, 100, view[:, :, :tokens].shape).astype(cache.shape.dtype)
    return held(cache, slot, tokens)


def held(cache: KvCache, slot: int, tokens: int) -> list[np.ndarray]:
    return [
        cache.rows(layer, part, slot, 1)[0, :, :tokens].copy()
        for layer in range(cache.shape.num_layers)
        for part in (0, 1)
    ]


def same(left: list[np.ndarray], right: list[np.ndarray]) -> bool:
    return all(np.array_equal(one, other) for one, other in zip(left, right, strict=True))


@pytest.mark.parametrize(("dtype", "item_bytes"), [("int8", 1), ("float16", 2), ("float32", 4)])
def test_sizes_follow_the_element_type(dtype: str, item_bytes: int) -> None:
    cache = make(dtype)
    assert cache.shape.bytes_per_token == 2 * 2 * 2 * 128 * item_bytes
    assert cache.reserved_bytes == cache.shape.bytes_per_token * 3 * 64
    view = cache.rows(1, 0, 1, 2)
    assert (view.shape, view.dtype) == ((2, 2, 64, 128), np.dtype(dtype))
    assert view.flags.c_contiguous


def test_rows_are_views_of_one_buffer_a_pointer_offset_apart() -> None:
    cache = make()
    whole = cache.rows(0, 1, 0, 3)
    assert cache.rows(0, 1, 2, 1).ctypes.data == whole.ctypes.data + 2 * whole.strides[0]
    addresses = {cache.rows(layer, part, 0, 3).ctypes.data for layer in (0, 1) for part in (0, 1)}
    assert len(addresses) == 4


def test_address_space_is_not_memory() -> None:
    cache = make(context=1 << 22)  # 12 GiB
    assert cache.reserved_bytes == 12 << 30
    view = cache.rows(1, 1, 2, 1)
    before = _rss_bytes()
    view[:, :, :16] = 1
    assert _rss_bytes() - before < 1 << 20


def test_only_touched_pages_are_resident() -> None:
    cache = make()
    assert resident_bytes(cache) == 0
    fill(cache, 1, 32, seed=1)  # of each head's 64 tokens, in 4 buffers of 2 heads
    assert resident_bytes(cache) == 4 * 2 * 32 * 128


def test_huge_pages_are_declined_so_that_a_token_commits_a_page_and_not_two_megabytes() -> None:
    if not Path("/sys/kernel/mm/transparent_hugepage").exists():
        pytest.skip("this kernel has no transparent huge pages")
    cache = make()
    assert "nh" in _vm_flags(cache.rows(0, 0, 0, 1).ctypes.data)


@pytest.mark.parametrize("dtype", ["int8", "float16", "float32"])
def test_release_gives_the_pages_back(dtype: str) -> None:
    cache = make(dtype)
    fill(cache, 0, 64, seed=1)
    kept = fill(cache, 2, 64, seed=2)
    full = resident_bytes(cache)
    cache.release(0)
    assert resident_bytes(cache) == full // 2
    assert not any(each.any() for each in held(cache, 0, 64))
    assert same(held(cache, 2, 64), kept)


@pytest.mark.parametrize("slot", [0, 1, 2])
@pytest.mark.parametrize(("context", "dim"), [(33, 24), (5, 16), (100, 40)], ids=["odd", "under a page", "over a page"])
def test_release_leaves_neighbours_alone_where_slots_share_pages(slot: int, context: int, dim: int) -> None:
    cache = make(context=context, dim=dim)
    before = [fill(cache, each, context, seed=each) for each in range(3)]
    cache.release(slot)
    for each in {0, 1, 2} - {slot}:
        assert same(held(cache, each, context), before[each])


# Slots of 8,000 bytes in pages of 4,096: 0 has pages 0 and (shared) 1, 1 has (shared) 1, 2 and (shared) 3, 2 the rest.
@pytest.mark.skipif(mmap.PAGESIZE != 4096, reason="the numbers are for pages of 4 KiB")
@pytest.mark.parametrize(("slot", "pages_back"), [(0, 1), (1, 1), (2, 2)])
def test_release_gives_back_every_page_that_is_the_slots_own(slot: int, pages_back: int) -> None:
    cache = make(context=100, dim=40)
    for each in range(3):
        fill(cache, each, 100, seed=each)
    full = resident_bytes(cache)
    assert full == 4 * 6 * 4096
    cache.release(slot)
    assert full - resident_bytes(cache) == 4 * pages_back * 4096


def test_release_twice_is_release() -> None:
    cache = make()
    cache.release(1)
    cache.release(1)
    assert resident_bytes(cache) == 0


# Heads of 64 tokens of 128 bytes: 32 tokens are a page.
@pytest.mark.skipif(mmap.PAGESIZE != 4096, reason="the numbers are for pages of 4 KiB")
@pytest.mark.parametrize(("tokens", "pages_kept"), [(0, 0), (1, 1), (32, 1), (33, 2), (64, 2)])
def test_release_beyond_keeps_the_first_entries_and_the_pages_they_are_in(tokens: int, pages_kept: int) -> None:
    cache = make()
    wanted = [each[:, :tokens] for each in fill(cache, 1, 64, seed=1)]
    neighbours = [fill(cache, slot, 64, seed=slot) for slot in (0, 2)]
    cache.release_beyond(1, tokens)
    assert same(held(cache, 1, tokens), wanted)
    assert [same(held(cache, slot, 64), each) for slot, each in zip((0, 2), neighbours, strict=True)] == [True, True]
    assert resident_bytes(cache) == 4 * 2 * (2 + pages_kept + 2) * 4096


@pytest.mark.parametrize("slot", [0, 1, 2])
@pytest.mark.parametrize(("context", "dim"), [(33, 24), (5, 16), (100, 40)], ids=["odd", "under a page", "over a page"])
@pytest.mark.parametrize("tokens", [0, 1, 4])
def test_release_beyond_leaves_all_others_alone_where_heads_share_pages(
    slot: int, context: int, dim: int, tokens: int
) -> None:
    cache = make(context=context, dim=dim)
    before = [fill(cache, each, context, seed=each) for each in range(3)]
    cache.release_beyond(slot, tokens)
    for each in {0, 1, 2} - {slot}:
        assert same(held(cache, each, context), before[each])
    assert same(held(cache, slot, tokens), [each[:, :tokens] for each in before[slot]])


@pytest.mark.parametrize("dtype", ["int8", "float16", "float32"])
def test_copy_brings_the_entries_and_leaves_the_source(dtype: str) -> None:
    cache = make(dtype)
    wanted = fill(cache, 2, 40, seed=1)
    neighbour = fill(cache, 1, 64, seed=2)
    cache.copy(2, 0, 40)
    assert same(held(cache, 0, 40), wanted)
    assert same(held(cache, 2, 40), wanted)
    assert same(held(cache, 1, 64), neighbour)


def test_copy_touches_no_more_than_it_brings() -> None:
    cache = make()
    fill(cache, 2, 64, seed=1)
    cache.copy(2, 0, 32)
    assert resident_bytes(cache) == 4 * 2 * (64 + 32) * 128
    assert not any(each[:, 32:].any() for each in held(cache, 0, 64))


def test_copy_goes_over_what_the_target_held() -> None:
    cache = make()
    wanted = fill(cache, 2, 40, seed=1)
    older = fill(cache, 0, 64, seed=2)
    cache.copy(2, 0, 40)
    assert same(held(cache, 0, 40), wanted)
    assert same([each[:, 40:] for each in held(cache, 0, 64)], [each[:, 40:] for each in older])


@pytest.mark.parametrize("dtype", ["int8", "float16", "float32"])
def test_pieces_are_the_entries_of_one_slot_in_order(dtype: str) -> None:
    cache = make(dtype)
    fill(cache, 0, 64, seed=1)
    wanted = b"".join(each.tobytes() for each in fill(cache, 1, 24, seed=2))
    assert b"".join(cache.pieces(1, 24)) == wanted
    assert len(wanted) == 24 * cache.shape.bytes_per_token


def test_pieces_are_where_the_entries_lie() -> None:
    cache = make("float16")
    wanted = fill(cache, 1, 24, seed=2)
    for source, target in zip(cache.pieces(1, 24), cache.pieces(2, 24), strict=True):
        target[:] = source
    assert same(held(cache, 2, 24), wanted)


@pytest.mark.parametrize("reading", [1 << 16, 5], ids=["at once", "in parts"])
def test_committed_bytes_are_what_the_kernel_has_committed(monkeypatch: pytest.MonkeyPatch, reading: int) -> None:
    monkeypatch.setattr(kv, "_PAGEMAP_READ", reading)
    cache = make()
    assert cache.committed_bytes() == 0
    for slot, tokens in enumerate((64, 1, 33)):
        fill(cache, slot, tokens, seed=slot)
        assert cache.committed_bytes() == resident_bytes(cache) > 0
    for slot in (0, 1, 2):
        cache.release(slot)
        assert cache.committed_bytes() == resident_bytes(cache)
    assert cache.committed_bytes() == 0


def test_memory_of_the_process_falls_with_each_release() -> None:
    cache = make(slots=2, context=1 << 14)  # 16 MiB a slot
    for slot in (0, 1):
        for piece in cache.pieces(slot, 1 << 14):
            np.frombuffer(piece, np.uint8)[:] = 1
    slot_bytes = cache.reserved_bytes // 2
    full = _rss_bytes()
    cache.release_beyond(0, 1 << 13)
    half = _rss_bytes()
    cache.release(1)
    assert full - half == pytest.approx(slot_bytes / 2, rel=0.1)
    assert half - _rss_bytes() == pytest.approx(slot_bytes, rel=0.1)


def test_no_address_space_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> mmap.mmap:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(mmap, "mmap", refuse)
    with pytest.raises(OSError, match=r"expected \d+ MiB of address space .* Lower --slots or --context"):
        make(context=1 << 20)


def _rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


def _vm_flags(address: int) -> list[str]:
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first = line.split()[0]
        if "-" in first and not first.endswith(":"):
            start, end = (int(each, 16) for each in first.split("-"))
            inside = start <= address < end
        elif inside and first == "VmFlags:":
            return line.split()[1:]
    raise AssertionError(f"{address:x} is not mapped")
