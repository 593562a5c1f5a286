"""The governor's rules, one by one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bise_daemon.memory.governor import Governor, MemoryLevel, Rules, Verdict
from bise_daemon.memory.reading import Events, Pressure, Reading
from bise_proto.v1 import device_pb2

NORMAL, TIGHT, CRITICAL = MemoryLevel
_MIB = 1 << 20
_TOKEN_BYTES = 1 << 10
_RESERVE = 256 * _MIB
_MOST = 8 * 4096
# A machine of 2 GiB with plenty available.
CALM = Reading(1024 * _MIB, 2048 * _MIB, 0, 0, Pressure(0.0, 0.0))


class Governed:
    """A governor asked every 250 ms, of a device whose state changes by name."""

    def __init__(self, **rules: Any) -> None:
        self.governor = Governor(
            Rules(**{"bytes_per_token": _TOKEN_BYTES, "most_tokens": _MOST, "most_context_tokens": 4096} | rules)
        )
        self.now_ms = 0.0
        self.reading = CALM
        self.committed_tokens = 0

    def after(self, passed_ms: float = 250, **changes: Any) -> Verdict:
        """The last verdict of a time in which readings are the same."""
        self.reading = replace(self.reading, **changes)
        end_ms = self.now_ms + passed_ms
        while self.now_ms < end_ms:
            self.now_ms = min(end_ms, self.now_ms + 250)
            verdict = self.governor.update(self.reading, self.now_ms, self.committed_tokens * _TOKEN_BYTES)
        return verdict

    def free(self, tokens: int, passed_ms: float = 250) -> Verdict:
        """With just so much beside the reserve."""
        return self.after(passed_ms, available_bytes=_RESERVE + tokens * _TOKEN_BYTES)


@pytest.fixture
def device() -> Governed:
    return Governed()


def left(share: float) -> dict[str, Any]:
    return {"available_bytes": int(_RESERVE * share)}


def waiting(some: float, full: float) -> dict[str, Any]:
    return {"pressure": Pressure(some, full)}


@pytest.mark.parametrize(
    ("changes", "level", "cause"),
    [
        ({}, NORMAL, ""),
        (left(1.0), NORMAL, ""),
        (left(0.76), NORMAL, ""),
        (left(0.75), TIGHT, "reserve"),
        (left(0.41), TIGHT, "reserve"),
        (left(0.4), CRITICAL, "reserve"),
        (left(0.0), CRITICAL, "reserve"),
        (waiting(0.09, 0.04), NORMAL, ""),
        (waiting(0.10, 0.04), TIGHT, "pressure some"),
        (waiting(0.05, 0.05), TIGHT, "pressure full"),
        (waiting(0.39, 0.19), TIGHT, "pressure some, pressure full"),
        (waiting(0.40, 0.0), CRITICAL, "pressure some"),
        (waiting(0.20, 0.20), CRITICAL, "pressure full"),
        ({"events": Events(high=5, max=5)}, NORMAL, ""),
        (left(0.99) | {"events": Events(high=5, max=2)}, NORMAL, ""),
        (left(0.99) | {"events": Events(high=6, max=2)}, TIGHT, "at the limit"),
        (left(0.99) | {"events": Events(high=5, max=3)}, TIGHT, "at the limit"),
        (left(0.7) | {"events": Events(high=5, max=99)}, TIGHT, "reserve, at the limit"),
        ({"events": Events(high=5, max=2, oom=1)}, CRITICAL, "out of memory"),
        ({"events": Events(high=5, max=2, oom_kill=1)}, CRITICAL, "out of memory"),
        ({"events": Events()}, NORMAL, ""),
    ],
    ids=str,
)
def test_one_reading_is_enough_to_worsen(
    device: Governed, changes: dict[str, Any], level: MemoryLevel, cause: str
) -> None:
    assert device.after(events=Events(high=5, max=2)).level is NORMAL
    verdict = device.after(**changes)
    assert (verdict.level, verdict.cause) == (level, cause)


def test_what_happened_before_the_first_reading_is_past(device: Governed) -> None:
    assert device.after(events=Events(9, 9, 9, 9), **left(0.9)).level is NORMAL


@pytest.mark.parametrize(
    ("bad", "still", "good"),
    [
        (left(0.7), left(0.87), left(0.88)),
        (waiting(0.1, 0.0), waiting(0.05, 0.0), waiting(0.04, 0.0)),
        (waiting(0.05, 0.05), waiting(0.03, 0.025), waiting(0.03, 0.02)),
    ],
)
def test_it_improves_once_better_news_has_held(
    device: Governed, bad: dict[str, Any], still: dict[str, Any], good: dict[str, Any]
) -> None:
    assert device.after(**bad).level is TIGHT
    assert device.after(60_000, **still).level is TIGHT
    assert device.after(9_750, **good).level is TIGHT
    assert device.after(250, **still).level is TIGHT
    assert device.after(9_750, **good).level is TIGHT
    verdict = device.after(250)
    assert (verdict.level, verdict.cause) == (NORMAL, "")


def test_it_improves_a_step_at_a_time(device: Governed) -> None:
    assert device.after(**left(0.1)).level is CRITICAL
    calm = {"available_bytes": CALM.available_bytes}
    assert device.after(9_750, **calm).level is CRITICAL
    assert device.after(250).level is TIGHT
    assert device.after(9_750).level is TIGHT
    assert device.after(250).level is NORMAL


def test_an_event_s_trouble_lasts_for_the_hold_time(device: Governed) -> None:
    device.after()
    assert device.after(events=Events(oom=1)).level is CRITICAL
    verdict = device.after(10_000)
    assert (verdict.level, verdict.cause) == (TIGHT, "out of memory")
    assert device.after(10_000).level is NORMAL


def test_a_group_that_goes_away_is_no_event(device: Governed) -> None:
    device.after(events=Events(9, 9, 9, 9))
    assert device.after(events=Events(1, 1, 1, 1), **left(0.9)).level is NORMAL
    assert device.after(events=Events(1, 1, 2, 1)).level is CRITICAL


@pytest.mark.parametrize(
    ("tokens", "budget", "context"),
    [
        (1 << 20, _MOST, 4096),
        (4096, 4096, 4096),
        (4095, 4095, 4032),
        (128, 128, 128),
        (127, 127, 64),
        (63, 63, 16),
        (16, 16, 16),
        (15, 15, 0),
        (0, 0, 0),
        (-1, 0, 0),
    ],
)
def test_the_context_limit_is_whole_steps_of_the_budget(
    device: Governed, tokens: int, budget: int, context: int
) -> None:
    assert device.free(tokens) == Verdict(NORMAL, budget, context)


@pytest.mark.parametrize(("trouble", "parts"), [(waiting(0.1, 0.0), 2), (waiting(0.4, 0.0), 4)])
def test_in_trouble_less_is_for_new_requests(trouble: dict[str, Any], parts: int) -> None:
    device = Governed()
    device.after(**trouble)
    verdict = device.free(1 << 20)
    assert (verdict.kv_budget_tokens, verdict.context_limit) == (_MOST, 4096 // parts)
    device.committed_tokens = 2000
    verdict = device.free(4000)
    assert (verdict.kv_budget_tokens, verdict.context_limit) == (2000 + 4000 // parts, 4096 // parts)


@pytest.mark.parametrize(("most", "context"), [(16, 16), (40, 16), (100, 16), (256, 64)])
def test_small_contexts_stay_usable(most: int, context: int) -> None:
    assert Governed(most_context_tokens=most).after(**waiting(0.4, 0.0)).context_limit == context


def test_what_requests_hold_is_not_lost_to_them(device: Governed) -> None:
    assert device.free(3000).kv_budget_tokens == 3000
    for committed_tokens in (500, 3000, 100, 0):
        device.committed_tokens = committed_tokens
        assert device.free(3000 - committed_tokens).kv_budget_tokens == 3000


def test_the_budget_falls_below_what_runs_when_others_take_the_reserve(device: Governed) -> None:
    device.committed_tokens = 3000
    verdict = device.free(-1000)
    assert (verdict.level, verdict.kv_budget_tokens) == (NORMAL, 2000)


def test_a_release_counted_late_is_forgotten_at_once(device: Governed) -> None:
    device.committed_tokens = 2000
    device.free(0)
    assert device.free(2000).kv_budget_tokens == 2000  # released, still counted
    device.committed_tokens = 0
    assert device.free(2000).kv_budget_tokens == 2000


def test_memory_that_came_back_counts_once_it_has_stayed(device: Governed) -> None:
    device.free(1000)
    assert device.free(100).kv_budget_tokens == 100
    assert device.free(700, 5_000).kv_budget_tokens == 100
    assert device.free(1000, 4_750).kv_budget_tokens == 100
    assert device.free(1000).kv_budget_tokens == 700
    assert device.free(1000, 4_750).kv_budget_tokens == 700
    assert device.free(1000).kv_budget_tokens == 1000


@pytest.mark.parametrize(
    ("used_mib", "verdict"),
    [
        (700, Verdict(NORMAL, 1088, 1088)),
        (767, Verdict(NORMAL, 16, 16)),
        (900, Verdict(TIGHT, 0, 0, "reserve, at the limit")),
        (1000, Verdict(CRITICAL, 0, 0, "reserve")),
    ],
)
def test_a_limit_cut_in_half_counts_with_the_next_reading(used_mib: int, verdict: Verdict) -> None:
    device = Governed(bytes_per_token=64 << 10)
    limit_bytes = 2048 * _MIB
    assert device.after(available_bytes=limit_bytes - used_mib * _MIB).context_limit == 4096
    limit_bytes //= 2
    events = Events(max=1)  # as when the kernel had to reclaim for it
    assert (
        device.after(limit_bytes=limit_bytes, available_bytes=limit_bytes - used_mib * _MIB, events=events) == verdict
    )


def test_levels_are_the_wire_s() -> None:
    wire = device_pb2.Status.MemoryLevel
    assert {level.name: level.value for level in MemoryLevel} == {
        name: number for name, number in wire.items() if number
    }
