"""How requests stand when a step is over, foreseen and as it comes."""

from __future__ import annotations

import random

import pytest

from bise_daemon.scheduler.forecast import Standing
from bise_daemon.scheduler.foreseen import after_step, step_ms
from bise_daemon.scheduler.limits import Limits
from bise_daemon.scheduler.request import Priority, Request
from bise_daemon.scheduler.scheduler import Scheduler
from bise_daemon.scheduler.step import Settle, StepPlan, Verify
from virtual_device import LinearCosts, VirtualDevice

WAYS = {
    "chunks": Limits(4, 256, 1024, 32, spare_slots=2, idle_tokens=256),
    "riders": Limits(4, 256, 1024, 32, smallest_chunk=1),
    "mixed": Limits(4, 256, 1024, 32, smallest_chunk=1, one_way=False, mixes=True),
    "little memory": Limits(4, 256, 300, 32),
}


class Foreseeing(Scheduler):
    """Looks ahead whenever it plans."""

    foreseen: tuple[float, list[Standing]] | None = None
    works: set[type]

    def plan(self, now: float) -> StepPlan:
        plan, self.foreseen = super().plan(now), None
        if plan.work is not None:
            self.works.add(type(plan.work))
            copies_ms = sum(self.costs.copy_ms(copy.tokens) for copy in plan.copies)
            self.foreseen = copies_ms + step_ms(plan.work, self.costs), after_step(plan.work, standings(self))
        return plan


def standings(scheduler: Scheduler) -> list[Standing]:
    return [Standing.of(request) for request in [*scheduler.waiting, *scheduler.running]]


def fields(some: list[Standing]) -> dict[str, tuple[object, ...]]:
    return {
        each.id: (
            each.computed_tokens,
            each.left_to_prefill,
            each.left_to_generate,
            each.running,
            each.begun,
        )
        for each in some
    }


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("seed", range(8))
def test_it_comes_as_it_was_foreseen(way: str, seed: int) -> None:
    chance = random.Random(seed)
    scheduler = Foreseeing(WAYS[way], LinearCosts())
    scheduler.works = set()
    device = VirtualDevice(scheduler)
    for index in range(40):
        if index < 12:
            prompt = [chance.randrange(50) for _ in range(chance.choice([1, chance.randrange(2, 150)]))]
            device.submit(Request(f"r{index}", prompt, chance.randrange(1, 40), priority=chance.choice([*Priority])))
        for _ in range(chance.randrange(12)):
            before = device.now
            ran = device.step()
            if scheduler.foreseen is not None:
                took_ms, found = scheduler.foreseen
                assert device.now - before == pytest.approx(took_ms) or isinstance(ran, Settle)
                assert fields(found) == fields(standings(scheduler))
    assert len(scheduler.works) >= 2


def test_guesses_are_not_counted_on() -> None:
    costs, request = LinearCosts(), Request("a", [1, 2, 3], 9)
    request.slot, request.computed_tokens, request.output = 0, 3, [4]
    request.phase = request.phase.DECODE
    work = Verify("a", 0, 3, [4, 5, 6])
    (found,) = after_step(work, [Standing.of(request)])
    assert (found.computed_tokens, found.left_to_generate) == (4, 7)
    assert step_ms(work, costs) == costs.verify_ms(3, 3)


def test_what_is_given_up_for_whoever_comes_takes_no_time() -> None:
    assert step_ms(Settle(0, 8, [1, 2]), LinearCosts()) == 0
    assert after_step(Settle(0, 8, [1, 2]), []) == []
