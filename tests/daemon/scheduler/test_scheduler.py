"""A request's life by its table: what each event leads to in each phase."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from bise_daemon.scheduler.limits import Limits
from bise_daemon.scheduler.request import Ending, Phase, Priority, Request
from bise_daemon.scheduler.scheduler import Scheduler
from bise_daemon.scheduler.step import Prefill
from virtual_device import LinearCosts, VirtualDevice

LIMITS = Limits(1, 64, 128, 8, spare_slots=1, idle_tokens=64)
COSTS = LinearCosts()


@dataclass
class Life:
    """One request of background class on a device with one slot, and whom it meets there."""

    device: VirtualDevice
    request: Request

    @classmethod
    def beginning(cls, max_tokens: int = 20) -> Life:
        device = VirtualDevice(Scheduler(LIMITS, COSTS))
        request = Request("it", range(100, 120), max_tokens, 10_000.0, priority=Priority.BACKGROUND)
        device.submit(request)
        return cls(device, request)

    def until(self, reached: Callable[[], bool]) -> Life:
        while not reached():
            self.device.step()
        return self

    def critical(self, name: str = "critical", max_tokens: int = 5) -> None:
        self.device.submit(Request(name, [1, 2, 3], max_tokens, priority=Priority.CRITICAL))


def waiting() -> Life:
    device = VirtualDevice(Scheduler(LIMITS, COSTS))
    device.submit(Request("before", [1], 40, priority=Priority.BACKGROUND))
    device.step()
    request = Request("it", range(100, 120), 20, 10_000.0, priority=Priority.BACKGROUND)
    device.submit(request)
    device.step()
    return Life(device, request)


def prefilling() -> Life:
    life = Life.beginning()
    return life.until(lambda: life.request.computed_tokens > 0)


def ending_its_prompt(max_tokens: int = 20) -> Life:
    life = Life.beginning(max_tokens)
    return life.until(lambda: 0 < life.request.left_to_prefill <= LIMITS.prefill_chunk_tokens)


def decoding(max_tokens: int = 20) -> Life:
    life = Life.beginning(max_tokens)
    return life.until(lambda: len(life.request.output) >= 2)


def preempted() -> Life:
    life = decoding()
    life.critical()
    life.device.step()
    return life


def step(life: Life) -> None:
    life.device.step()


def interrupted_step(life: Life) -> None:
    life.device.step(give_up=True)


def breaks(life: Life) -> None:
    life.device.step(failing=["it"])


def stops(life: Life) -> None:
    life.device.journeys["it"].stops_after = len(life.request.output) + 1
    life.device.step()


def abort(life: Life) -> None:
    life.device.abort("it")


def deadline(life: Life) -> None:
    life.device.now = 10_000.0
    life.device.step()


def critical_arrives(life: Life) -> None:
    life.critical("another")
    life.device.step()


def slot_comes_free(life: Life) -> None:
    for request in life.device.scheduler.running:
        life.device.abort(request.id)
    life.device.step(give_up=True)


def cache_is_lost(life: Life) -> None:
    life.device.scheduler.limits = replace(LIMITS, idle_tokens=0)
    life.device.step()
    slot_comes_free(life)


W, P, D, E = Phase.WAITING, Phase.PREFILL, Phase.DECODE, Phase.ENDED


@pytest.mark.parametrize(
    ("situation", "event", "phase", "ending"),
    [
        (waiting, step, W, None),
        (waiting, interrupted_step, W, None),
        (waiting, abort, E, Ending.ABORTED),
        (waiting, deadline, E, Ending.DEADLINE),
        (waiting, critical_arrives, W, None),
        (waiting, slot_comes_free, P, None),
        (prefilling, step, P, None),
        (prefilling, interrupted_step, P, None),
        (prefilling, abort, E, Ending.ABORTED),
        (prefilling, deadline, E, Ending.DEADLINE),
        (prefilling, critical_arrives, W, None),
        (ending_its_prompt, step, D, None),
        (ending_its_prompt, interrupted_step, P, None),
        (ending_its_prompt, breaks, E, Ending.ABORTED),
        (ending_its_prompt, stops, E, Ending.STOPPED),
        (lambda: ending_its_prompt(max_tokens=1), step, E, Ending.LENGTH),
        (decoding, step, D, None),
        (decoding, interrupted_step, D, None),
        (decoding, breaks, E, Ending.ABORTED),
        (decoding, stops, E, Ending.STOPPED),
        (lambda: decoding(max_tokens=3), step, E, Ending.LENGTH),
        (decoding, abort, E, Ending.ABORTED),
        (decoding, deadline, E, Ending.DEADLINE),
        (decoding, critical_arrives, W, None),
        (preempted, step, W, None),
        (preempted, abort, E, Ending.ABORTED),
        (preempted, deadline, E, Ending.DEADLINE),
        (preempted, critical_arrives, W, None),
        (preempted, slot_comes_free, D, None),
        (preempted, cache_is_lost, P, None),
    ],
)
def test_what_an_event_leads_to(
    situation: Callable[[], Life], event: Callable[[Life], None], phase: Phase, ending: Ending | None
) -> None:
    life = situation()
    event(life)
    assert (life.request.phase, life.device.journeys["it"].ending) == (phase, ending)
    assert (life.request.slot is not None) == (phase in (P, D))
    life.device.scheduler.check_integrity()


@pytest.mark.parametrize("situation", [waiting, prefilling, ending_its_prompt, decoding, preempted])
@pytest.mark.parametrize("event", [step, interrupted_step, critical_arrives, slot_comes_free, cache_is_lost])
def test_whatever_happens_on_the_way_the_answer_is_the_same(
    situation: Callable[[], Life], event: Callable[[Life], None]
) -> None:
    life = situation()
    if life.request.slot is None or event not in (slot_comes_free, cache_is_lost):
        event(life)
    life.device.run()
    journey = life.device.journeys["it"]
    assert journey.ending is Ending.LENGTH
    assert life.request.output == life.device.script.answer(life.request.prompt, 20)


def test_nothing_to_do() -> None:
    scheduler = Scheduler(LIMITS, COSTS)
    assert not scheduler.has_work
    plan = scheduler.plan(0)
    assert plan.work is None
    assert scheduler.commit(plan, {}, 0) == {}


def test_abort_knows_who_is_here() -> None:
    scheduler = Scheduler(LIMITS, COSTS)
    scheduler.submit(Request("a", [1], 1))
    assert scheduler.abort("a")
    assert not scheduler.abort("a")
    assert not scheduler.abort("never")


def test_a_deadline_counts_from_its_very_moment() -> None:
    scheduler = Scheduler(LIMITS, COSTS)
    scheduler.submit(Request("a", [1], 1, deadline_ms=50.0))
    assert scheduler.plan(49.9).expired == []
    assert scheduler.plan(50.0).expired == ["a"]


@pytest.mark.parametrize(
    ("prompt_tokens", "max_tokens", "fits"),
    [
        (1, 1, True),
        (64, 1, True),
        (65, 1, False),
        (63, 2, True),
        (63, 3, False),
        (0, 1, False),
        (64, 0, True),
        (65, 0, False),
    ],
)
def test_what_fits_a_slot(prompt_tokens: int, max_tokens: int, fits: bool) -> None:
    assert Scheduler(LIMITS, COSTS).fits(prompt_tokens, max_tokens) is fits


def test_a_prompt_runs_in_chunks_and_only_the_last_samples() -> None:
    device = VirtualDevice(Scheduler(LIMITS, COSTS))
    device.submit(Request("a", range(20), 5))
    works = [device.step() for _ in range(3)]
    assert works == [
        Prefill("a", 0, 0, list(range(8)), False),
        Prefill("a", 0, 8, list(range(8, 16)), False),
        Prefill("a", 0, 16, list(range(16, 20)), True),
    ]


def test_a_prompt_may_be_all_that_is_wanted() -> None:
    device = VirtualDevice(Scheduler(LIMITS, COSTS))
    device.submit(Request("ahead", range(20), 0))
    works = [device.step() for _ in range(3)]
    assert works[-1] == Prefill("ahead", 0, 16, list(range(16, 20)), False)
    assert device.journeys["ahead"].ending is Ending.LENGTH
    device.submit(Request("a", range(20), 1))
    assert device.step() == Prefill("a", 0, 18, [18, 19], True)


def test_words_that_are_revised_stay_in_one_slot() -> None:
    device = VirtualDevice(Scheduler(replace(LIMITS, spare_slots=3, idle_tokens=200), COSTS))
    stem = list(range(100, 130))
    for words in ([], [1], [1, 2], [1, 2, 3], [1, 4]):
        device.submit(Request(f"{words}", [*stem, *words, 50, 51], 0))
        while device.step():
            pass
    device.submit(Request("a", [*stem, 1, 4, 50, 51], 3))
    device.step()
    assert device.journeys["a"].request.slot == 0
    assert device.scheduler.idle_tokens == 0


@pytest.mark.parametrize(
    ("prompt_tokens", "sizes"), [(8, [8]), (9, [7, 2]), (17, [8, 7, 2]), (1, [1]), (2, [2]), (3, [3])]
)
def test_no_chunk_of_one_token_is_left_over(prompt_tokens: int, sizes: list[int]) -> None:
    device = VirtualDevice(Scheduler(LIMITS, COSTS))
    device.submit(Request("a", range(prompt_tokens), 5))
    works = [device.step() for _ in sizes]
    assert [len(work.tokens) for work in works if isinstance(work, Prefill)] == sizes


def test_cancelled_in_its_prompt_the_same_prompt_goes_on_from_there() -> None:
    device = VirtualDevice(Scheduler(replace(LIMITS, context_tokens=2048, idle_tokens=2048), COSTS))
    device.submit(Request("first", range(1000), 5))
    for _ in range(50):
        device.step()
    device.abort("first")
    device.submit(Request("again", range(1000), 5))
    work = device.step()
    assert isinstance(work, Prefill)
    assert (work.request_id, work.start) == ("again", 400)
    device.run()
    assert device.journeys["again"].request.reused_tokens == 400


def test_a_second_turn_computes_only_what_is_new() -> None:
    device = VirtualDevice(Scheduler(replace(LIMITS, context_tokens=512, idle_tokens=512), COSTS))
    first = device.submit(Request("first", range(100), 20))
    device.run()
    history = [*range(100), *first.request.output]
    second = device.submit(Request("second", [*history, 1, 2, 3, 4], 5))
    device.run()
    # The last token of an answer was never fed back.
    assert second.request.reused_tokens == len(history) - 1
