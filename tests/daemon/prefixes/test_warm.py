"""Prefixes get into the cache once, from disk if they can."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bise_daemon.engine.kv import CacheShape, KvCache
from bise_daemon.engine.runner import Runner
from bise_daemon.prefixes.prefix import Prefix
from bise_daemon.prefixes.store import PrefixStore
from bise_daemon.prefixes.warm import WarmPrefix, warm

LONG = Prefix("long", list(range(20, 41)))
SHORT = Prefix("short", [3, 1, 4])
MakeStore = Callable[..., PrefixStore]


def entries(cache: KvCache, slot: int, tokens: int) -> bytes:
    return b"".join(cache.pieces(slot, tokens))


def test_what_is_not_kept_is_computed_each_in_its_slot(store: PrefixStore, runner: Runner, cache: KvCache) -> None:
    warmed = warm([LONG, SHORT], store, runner, cache, [2, 0], chunk_tokens=8, budget_tokens=100)
    assert warmed == [WarmPrefix("long", 2, LONG.tokens), WarmPrefix("short", 0, SHORT.tokens)]
    assert runner.steps == [(2, 0, 8), (2, 8, 8), (2, 16, 5), (0, 0, 3)]  # type: ignore[attr-defined]
    assert cache.rows(1, 1, 2, 1)[0, 1, :21, 0].tolist() == [20 + 2 * place for place in range(21)]


def test_what_is_kept_is_not_computed_again(make_store: MakeStore, runner: Runner, cache: KvCache) -> None:
    warm([LONG, SHORT], make_store(), runner, cache, [0, 1], 8, 100)
    before = entries(cache, 0, 21)
    for slot in (0, 1):
        cache.release(slot)
    runner.steps.clear()  # type: ignore[attr-defined]
    warmed = warm([SHORT, LONG], make_store(), runner, cache, [1, 2], 8, 100)
    assert [(each.name, each.slot) for each in warmed] == [("short", 1), ("long", 2)]
    assert not runner.steps  # type: ignore[attr-defined]
    assert entries(cache, 2, 21) == before


def test_what_is_damaged_is_computed_and_kept_again(
    make_store: MakeStore, runner: Runner, cache: KvCache, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    warm([LONG], make_store(), runner, cache, [0], 8, 100)
    wanted = entries(cache, 0, 21)
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:-100] + bytes(100))
    warm([LONG], make_store(), runner, cache, [1], 8, 100)
    assert entries(cache, 1, 21) == wanted
    assert path.read_bytes() == whole
    assert "damaged" in caplog.text


def test_what_nobody_names_any_more_goes(make_store: MakeStore, runner: Runner, cache: KvCache, folder: Path) -> None:
    warm([LONG, SHORT], make_store(), runner, cache, [0, 1], 8, 100)
    assert len(list(folder.iterdir())) == 2
    warm([SHORT], make_store(), runner, cache, [0, 1], 8, 100)
    assert len(list(folder.iterdir())) == 1
    warm([], make_store(), runner, cache, [0, 1], 8, 100)
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    ("slots", "budget", "room"), [([0], 100, 0), ([0, 1], 23, 2), ([0, 1], 21, 0)], ids=["slots", "little", "none"]
)
def test_one_without_room_is_left_out_with_the_numbers(
    store: PrefixStore,
    runner: Runner,
    cache: KvCache,
    slots: list[int],
    budget: int,
    room: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    warmed = warm([LONG, SHORT], store, runner, cache, slots, 8, budget)
    assert [each.name for each in warmed] == ["long"]
    assert f"prefix short: left out: expected at most {room} tokens, got 3" in caplog.text


def test_one_longer_than_a_slot_makes_way_for_the_next(
    store: PrefixStore, runner: Runner, cache: KvCache, caplog: pytest.LogCaptureFixture
) -> None:
    warmed = warm([Prefix("huge", range(65)), SHORT], store, runner, cache, [0], 8, 1000)
    assert [(each.name, each.slot) for each in warmed] == [("short", 0)]
    assert "prefix huge: left out: expected at most 64 tokens, got 65" in caplog.text


def test_the_log_tells_where_a_prefix_came_from_and_not_what_it_says(
    make_store: MakeStore, runner: Runner, cache: KvCache, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            warmed = warm([SHORT], make_store(), runner, cache, [0], 8, 100)
    assert [record.getMessage() for record in caplog.records] == [
        "prefix short: 3 tokens computed",
        "prefix short: 3 tokens from disk",
    ]
    assert repr(warmed) == "[WarmPrefix(name='short', slot=0)]"


class Chunks:
    """Takes note of prefill steps only."""

    def __init__(self) -> None:
        self.ranges: list[tuple[int, int]] = []

    def prefill(self, slot: int, start: int, tokens: list[int], samples: bool) -> np.ndarray:
        self.ranges.append((start, start + len(tokens)))
        return np.empty((0, 1), np.float32)


@given(tokens=st.integers(2, 64), chunk=st.integers(1, 70))
def test_chunks_are_the_whole_prefix_and_never_a_lone_token(
    tmp_path_factory: pytest.TempPathFactory, tokens: int, chunk: int
) -> None:
    cache = KvCache(CacheShape(1, 1, 1, np.dtype(np.int8), 1, 64))
    nowhere = tmp_path_factory.getbasetemp() / "a file"
    nowhere.touch()
    chunks = Chunks()
    store = PrefixStore(nowhere, "b", "r", cache.shape)
    warm([Prefix("x", range(tokens))], store, chunks, cache, [0], chunk, 64)  # type: ignore[arg-type]
    starts, ends = zip(*chunks.ranges, strict=True)
    assert (starts[0], ends[-1], starts[1:]) == (0, tokens, ends[:-1])
    assert all(2 <= end - start <= max(chunk, 2) + 1 for start, end in chunks.ranges)
