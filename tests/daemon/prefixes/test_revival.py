"""Which prefixes are asked back, and when."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from bise_daemon.engine.kv import KvCache
from bise_daemon.engine.outlook import Outlook
from bise_daemon.engine.runner import Runner
from bise_daemon.prefixes.prefix import Prefix
from bise_daemon.prefixes.revival import Revival, lost
from bise_daemon.prefixes.store import PrefixStore
from bise_daemon.prefixes.warm import WarmPrefix, warm

LONG = WarmPrefix("long", 0, list(range(20, 41)))
SHORT = WarmPrefix("short", 1, [3, 1, 4])
BOTH = [LONG, SHORT]


def held(*prefixes: WarmPrefix) -> list[tuple[Sequence[int], int]]:
    return [(tuple(prefix.tokens), len(prefix.tokens)) for prefix in prefixes]


@pytest.mark.parametrize(
    ("there", "budget", "missing"),
    [
        ([], 100, BOTH),
        (held(LONG), 100, [SHORT]),
        (held(SHORT, LONG), 100, []),
        # Part of it, what is longer, and what only looks like it.
        ([(LONG.tokens, 20), ([3, 1, 4, 1], 4), ([3, 1, 5], 3)], 100, BOTH),
        ([], 24, BOTH),
        ([], 23, [LONG]),
        ([], 20, []),
        # Room for the second alone is no reason: the first would have to go for it.
        (held(LONG), 23, []),
    ],
)
def test_what_is_missing_comes_back_in_order_while_there_is_room(
    there: list[tuple[Sequence[int], int]], budget: int, missing: list[WarmPrefix]
) -> None:
    assert list(lost(BOTH, there, budget)) == missing


class Asked:
    """An engine that is told what to refill, and fills it as soon as the test wants.

    Attributes:
        slots: those it was asked to refill.
    """

    def __init__(self) -> None:
        self.outlook = Outlook()
        self.slots: list[int] = []
        self._fills: list[Callable[[], bool]] = []

    def refill(self, slot: int, tokens: Sequence[int], fill: Callable[[], bool]) -> None:
        self.slots.append(slot)
        self._fills.append(fill)

    def fill(self) -> bool:
        return self._fills.pop()()


@pytest.fixture
def engine() -> Asked:
    return Asked()


@pytest.fixture
def revival(engine: Asked, store: PrefixStore, runner: Runner, cache: KvCache) -> Revival:
    """Of two prefixes that are on disk."""
    warmed = warm([Prefix(each.name, each.tokens) for each in BOTH], store, runner, cache, [0, 1], 8, 100)
    return Revival(warmed, store, cache, cast(Any, engine))


def test_one_at_a_time_while_nobody_is_served(engine: Asked, revival: Revival) -> None:
    engine.outlook = Outlook(busy=True)
    revival.go_on(100)
    assert engine.slots == []
    engine.outlook = Outlook()
    revival.go_on(100)
    assert engine.slots == [LONG.slot]
    engine.outlook = Outlook(prefixes=held(LONG))
    revival.go_on(100)
    assert engine.slots == [LONG.slot, SHORT.slot]
    engine.outlook = Outlook(prefixes=held(LONG, SHORT))
    revival.go_on(100)
    assert engine.slots == [LONG.slot, SHORT.slot]


def test_what_comes_from_disk_is_what_was_computed(engine: Asked, revival: Revival, cache: KvCache) -> None:
    before = b"".join(cache.pieces(LONG.slot, len(LONG.tokens)))
    cache.release(LONG.slot)
    revival.go_on(100)
    assert engine.fill()
    assert b"".join(cache.pieces(LONG.slot, len(LONG.tokens))) == before


def test_what_is_not_on_disk_is_asked_for_once(
    engine: Asked, revival: Revival, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for path in folder.iterdir():
        path.unlink()
    revival.go_on(100)
    assert not engine.fill()
    assert "prefix long: not on disk any more" in caplog.text
    revival.go_on(100)
    assert engine.slots == [LONG.slot, SHORT.slot]
