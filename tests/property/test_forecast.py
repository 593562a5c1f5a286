"""What a forecast says beside what then happens, at costs that are known."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from statistics import median

import pytest

from bise_daemon.scheduler.forecast import Forecast, Standing, forecast
from bise_daemon.scheduler.limits import Limits
from bise_daemon.scheduler.request import Ending, Priority, Request
from bise_daemon.scheduler.scheduler import Scheduler
from virtual_device import Journey, LinearCosts, Noise, VirtualDevice, quiet

_SCENARIOS = 200
_CONTEXT_TOKENS = 2048


def scenario(seed: int, sigma: float = 0.0, smallest_chunk: int = 2, *, mixes: bool = False) -> VirtualDevice:
    """A device in the midst of work: requests of all kinds, some of them served for a while."""
    chance = random.Random(seed)
    kv_budget_tokens = chance.choice([2, 4, 8]) * _CONTEXT_TOKENS
    limits = Limits(8, _CONTEXT_TOKENS, kv_budget_tokens, 128, smallest_chunk=smallest_chunk, mixes=mixes)
    costs = LinearCosts(margin=chance.choice([1.0, 1.2]))
    device = VirtualDevice(Scheduler(limits, costs), noise=Noise(seed, sigma) if sigma else quiet)
    steps = chance.randrange(1, 200)
    for index in range(chance.randrange(1, 18)):
        now = device.now
        total_ms = chance.choice([None, None, 1e6, chance.uniform(20_000, 60_000)])
        request = Request(
            f"r{index}",
            [chance.randrange(10_000) for _ in range(chance.randrange(2, 800))],
            chance.choice([1, chance.randrange(1, 50), chance.randrange(1, 300)]),
            None if total_ms is None else now + total_ms,
            chance.choice([None, now + chance.uniform(100, 20_000)]),
            chance.choice([None, None, chance.uniform(15, 60)]),
            chance.choice([Priority.CRITICAL, *[Priority.INTERACTIVE] * 3, Priority.BACKGROUND]),
            total_ms is not None,
            now,
        )
        device.submit(request)
        for _ in range(chance.choice([0, chance.randrange(steps)])):
            device.step()
    return device


def foresee(device: VirtualDevice) -> dict[str, Forecast]:
    scheduler = device.scheduler
    standings = [Standing.of(request) for request in [*scheduler.waiting, *scheduler.running]]
    return forecast(standings, scheduler.limits, scheduler.costs, device.now)


def errors(foreseen: float, happened: float, now: float) -> float:
    """As a share of the time it took from now on; what is less than a step away counts as one."""
    return abs(foreseen - happened) / max(happened - now, 10.0)


def p90(values: Sequence[float]) -> float:
    return sorted(values)[int(0.9 * len(values))]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("smallest_chunk", "mixes", "sigma", "most_p50", "most_p90"),
    # Where prompts may ride, small differences of costs decide between a chunk and a rider, step by step.
    [
        (2, False, 0.0, 0.01, 0.03),
        (2, False, 0.1, 0.05, 0.15),
        (1, False, 0.0, 0.02, 0.15),
        (1, False, 0.1, 0.05, 0.15),
        (1, True, 0.0, 0.01, 0.03),
        (1, True, 0.1, 0.05, 0.15),
    ],
    ids=["exact", "noisy", "exact, with riders", "noisy, with riders", "exact, mixed", "noisy, mixed"],
)
def test_forecasts_come_true(smallest_chunk: int, mixes: bool, sigma: float, most_p50: float, most_p90: float) -> None:
    first_token: list[float] = []
    total: list[float] = []
    for seed in range(_SCENARIOS):
        device = scenario(seed, sigma, smallest_chunk, mixes=mixes)
        now = device.now
        foreseen = foresee(device)
        device.run()
        for name, each in foreseen.items():
            journey: Journey = device.journeys[name]
            if journey.ending is Ending.DEADLINE:
                continue
            assert journey.first_token_ms is not None
            assert journey.ended_ms is not None
            total.append(errors(each.ended_at_ms, journey.ended_ms, now))
            if each.first_token_at_ms is not None:
                first_token.append(errors(each.first_token_at_ms, journey.first_token_ms, now))
    for kind, values in (("first token", first_token), ("total", total)):
        assert len(values) > 3 * _SCENARIOS, kind
        assert median(values) <= most_p50, f"{kind}: p50 {median(values):.3f}, p90 {p90(values):.3f}"
        assert p90(values) <= most_p90, f"{kind}: p50 {median(values):.3f}, p90 {p90(values):.3f}"


def test_a_lone_request_is_foreseen_exactly() -> None:
    costs = LinearCosts()
    device = VirtualDevice(Scheduler(Limits(4, 2048, 8192, 128, step_ms=1e9), costs))
    device.submit(Request("a", range(100), 50))
    foreseen = foresee(device)["a"]
    device.run()
    journey = device.journeys["a"]
    assert foreseen.first_token_at_ms == journey.first_token_ms == costs.prefill_ms(100, 0)
    assert foreseen.ended_at_ms == pytest.approx(journey.ended_ms, rel=1e-3)


def test_everybody_is_foreseen_though_memory_is_gone() -> None:
    device = VirtualDevice(Scheduler(Limits(4, 2048, 8192, 128), LinearCosts()))
    for index in range(6):
        device.submit(Request(f"r{index}", range(100), 50, priority=Priority(index % 3)))
    device.step()
    device.scheduler.limits = replace(device.scheduler.limits, kv_budget_tokens=0)
    assert foresee(device).keys() == device.journeys.keys()


def test_who_has_begun_has_no_first_token_to_come() -> None:
    device = VirtualDevice(Scheduler(Limits(4, 2048, 8192, 128), LinearCosts()))
    journey = device.submit(Request("a", range(10), 50))
    while not journey.request.begun:
        device.step()
    assert foresee(device)["a"].first_token_at_ms is None


def test_a_forecast_moves_only_what_it_is_given() -> None:
    device = scenario(seed=3)
    requests = [*device.scheduler.waiting, *device.scheduler.running]
    assert requests
    before = [(each.computed_tokens, len(each.output), each.served_ms, each.phase) for each in requests]
    assert foresee(device) == foresee(device)
    assert [(each.computed_tokens, len(each.output), each.served_ms, each.phase) for each in requests] == before
