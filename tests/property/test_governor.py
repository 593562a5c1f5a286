"""The governor on whatever memory may do."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bise_daemon.memory.governor import Governor, MemoryLevel, Rules, Verdict
from bise_daemon.memory.reading import Events, Pressure, Reading

_MIB = 1 << 20
_LIMIT = 2048 * _MIB
_RULES = Rules(bytes_per_token=1 << 16, most_tokens=8192, most_context_tokens=4096)
_INTERVAL_MS = 250.0
_CALM = Reading(_LIMIT, _LIMIT, 0, 0, Pressure(0.0, 0.0))
_COUNTS = st.integers(0, 3)

# Mostly around the thresholds, with runs of equal readings so that better news can hold.
_available = st.one_of(st.integers(0, 400), st.integers(0, 2048)).map(lambda mib: mib * _MIB)
_pressure = st.sampled_from([0.0, 0.02, 0.04, 0.06, 0.15, 0.3, 0.5])
_readings = st.lists(
    st.tuples(
        st.builds(
            lambda available, some, full, events: Reading(available, _LIMIT, 0, 0, Pressure(some, full), events),
            _available,
            _pressure,
            _pressure,
            st.builds(Events, _COUNTS, _COUNTS, st.just(0), _COUNTS),
        ),
        st.integers(1, 90),
    ),
    min_size=1,
    max_size=12,
).map(lambda runs: [reading for reading, times in runs for _ in range(times)])


def verdicts(readings: Sequence[Reading], committed_bytes: int = 0) -> list[tuple[float, Verdict]]:
    governor = Governor(_RULES)
    return [
        (index * _INTERVAL_MS, governor.update(reading, index * _INTERVAL_MS, committed_bytes))
        for index, reading in enumerate(readings)
    ]


@pytest.mark.slow
@given(_readings, st.integers(0, 512).map(lambda mib: mib * _MIB))
def test_limits_are_within_bounds(readings: Sequence[Reading], committed_bytes: int) -> None:
    for _, verdict in verdicts(readings, committed_bytes):
        assert 0 <= verdict.context_limit <= verdict.kv_budget_tokens <= _RULES.most_tokens
        assert verdict.context_limit <= _RULES.most_context_tokens
        assert verdict.context_limit == 0 or verdict.context_limit >= 16
        assert bool(verdict.cause) == (verdict.level > MemoryLevel.NORMAL)


@pytest.mark.slow
@given(_readings)
def test_the_level_improves_by_one_and_never_sooner_than_the_hold_time(readings: Sequence[Reading]) -> None:
    changed_ms = -_RULES.hold_ms
    for (_, before), (now_ms, after) in pairwise(verdicts(readings)):
        if after.level < before.level:
            assert after.level == before.level - 1
            assert now_ms - changed_ms >= _RULES.hold_ms
        if after.level != before.level:
            changed_ms = now_ms


@pytest.mark.slow
@given(st.lists(st.tuples(_available, st.integers(1, 60)), min_size=1, max_size=12))
def test_at_one_level_limits_rise_only_if_they_did_not_fall_within_the_hold_time(runs: list[tuple[int, int]]) -> None:
    readings = [Reading(_LIMIT // 4 + available, _LIMIT, 0, 0) for available, times in runs for _ in range(times)]
    fell_ms = -_RULES.hold_ms
    for (_, before), (now_ms, after) in pairwise(verdicts(readings)):
        assert after.level is MemoryLevel.NORMAL
        for was, now in (
            (before.kv_budget_tokens, after.kv_budget_tokens),
            (before.context_limit, after.context_limit),
        ):
            if now > was:
                assert now_ms - fell_ms >= _RULES.hold_ms
        if after.kv_budget_tokens < before.kv_budget_tokens:
            fell_ms = now_ms


@pytest.mark.slow
@given(_readings, st.data())
def test_more_memory_never_makes_it_worse(readings: Sequence[Reading], data: st.DataObject) -> None:
    more = data.draw(st.lists(st.integers(0, 300), min_size=len(readings), max_size=len(readings)))
    richer = [
        Reading(reading.available_bytes + mib * _MIB, _LIMIT, 0, 0, reading.pressure, reading.events)
        for reading, mib in zip(readings, more, strict=True)
    ]
    for (_, poor), (_, rich) in zip(verdicts(readings), verdicts(richer), strict=True):
        assert rich.level <= poor.level
        assert rich.kv_budget_tokens >= poor.kv_budget_tokens
        assert rich.context_limit >= poor.context_limit


@pytest.mark.slow
@given(_readings, _readings)
def test_one_reading_is_enough_to_fall(before: Sequence[Reading], after: Sequence[Reading]) -> None:
    """Whatever was before, the verdict is never better than a fresh governor's on the last reading alone."""
    last = after[0]
    _, verdict = verdicts([*before, last])[-1]
    _, fresh = verdicts([last])[-1]
    assert verdict.level >= fresh.level
    assert verdict.kv_budget_tokens <= fresh.kv_budget_tokens
    assert verdict.context_limit <= fresh.context_limit


@pytest.mark.slow
@given(_readings)
def test_calm_heals_everything(readings: Sequence[Reading]) -> None:
    steps = int(2 * _RULES.hold_ms / _INTERVAL_MS) + 1
    events = readings[-1].events
    calm = [Reading(_CALM.available_bytes, _LIMIT, 0, 0, _CALM.pressure, events)] * steps
    assert verdicts([*readings, *calm])[-1][1] == Verdict(MemoryLevel.NORMAL, 8192, 4096)


@pytest.mark.parametrize("period_ms", [500, 1_000, 5_000, 9_000])
def test_a_signal_that_flutters_does_not_make_limits_flutter(period_ms: int) -> None:
    half = int(period_ms / _INTERVAL_MS) // 2
    bad = Reading(_LIMIT // 20, _LIMIT, 0, 0, Pressure(0.5, 0.3))
    told = [verdict for _, verdict in verdicts(([_CALM] * half + [bad] * half) * 20)]
    assert sum(before != after for before, after in pairwise(told)) == 1
