"""What was said becomes a prefix while nobody waits, where an answer is not computed as a prompt is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bise_daemon.scheduler.limits import Limits
from bise_daemon.scheduler.request import Request
from bise_daemon.scheduler.scheduler import Scheduler
from bise_daemon.scheduler.step import Settle, Work
from virtual_device import LinearCosts, VirtualDevice

LIMITS = Limits(4, 256, 1024, 64, spare_slots=2, idle_tokens=512, smallest_chunk=1, one_way=False)
PROMPT = list(range(40))


def served(limits: Limits = LIMITS, max_tokens: int = 30) -> VirtualDevice:
    """A device on which one answer has just ended."""
    device = VirtualDevice(Scheduler(limits, LinearCosts()))
    request = Request("first", PROMPT, max_tokens)
    device.submit(request)
    while device.journeys["first"].ending is None:
        device.step()
    return device


def settled(device: VirtualDevice) -> list[Work | None]:
    """The steps it takes before it has nothing to do."""
    steps = []
    while device.scheduler.has_work:
        steps.append(device.step())
        device.scheduler.check_integrity()
    return [step for step in steps if step is not None]


def next_turn(device: VirtualDevice) -> Request:
    """Who goes on from that answer, served to the end."""
    said = device.journeys["first"].request.output
    request = Request("next", [*PROMPT, *said, 1, 2, 3], 5)
    device.submit(request)
    while device.journeys["next"].ending is None:
        device.step()
    assert request.output == device.script.answer(request.prompt, 5, one_way=False)
    return request


def test_the_next_turn_pays_for_its_own_words_only() -> None:
    device = served()
    steps = settled(device)
    said = device.journeys["first"].request.output
    assert steps == [Settle(0, 40, said)]
    assert next_turn(device).reused_tokens == 40 + 30


def test_without_a_pause_it_pays_for_the_answer_too() -> None:
    assert next_turn(served()).reused_tokens == 40


def test_where_there_is_one_way_nothing_is_to_be_done() -> None:
    device = served(replace(LIMITS, one_way=True))
    assert settled(device) == []


def test_it_comes_in_steps_like_any_prompt() -> None:
    device = served(replace(LIMITS, step_ms=10.0))
    sizes = [len(step.tokens) for step in settled(device) if isinstance(step, Settle)]
    assert sum(sizes) == 30
    assert all(LinearCosts().prefill_ms(size, 40) <= 10.0 for size in sizes)
    assert next_turn(device).reused_tokens == 70


def test_what_was_given_up_is_begun_again() -> None:
    device = served()
    assert isinstance(device.step(give_up=True), Settle)
    assert settled(device) == [Settle(0, 40, device.journeys["first"].request.output)]


@pytest.mark.parametrize(("idle_tokens", "reused"), [(69, 40), (70, 70)])
def test_it_takes_no_room_that_is_not_there(idle_tokens: int, reused: int) -> None:
    device = served(replace(LIMITS, idle_tokens=idle_tokens))
    settled(device)
    assert next_turn(device).reused_tokens == reused


@pytest.mark.parametrize(("max_tokens", "steps"), [(1, 0), (2, 1)])
def test_an_answer_too_short_for_a_chunk_stays_as_it_is(max_tokens: int, steps: int) -> None:
    assert len(settled(served(replace(LIMITS, smallest_chunk=2), max_tokens))) == steps


def test_whoever_comes_does_not_wait_for_it() -> None:
    device = served()
    comes_ms = device.now + 1.0
    request = Request("other", [9] * 8, 2, arrived_ms=comes_ms)
    device.run([(comes_ms, lambda: device.submit(request))])
    alone_ms = LinearCosts().prefill_ms(8, 0)
    assert device.journeys["other"].first_token_ms == pytest.approx(comes_ms + alone_ms)


def test_the_last_answer_comes_first() -> None:
    device = served()
    second = Request("second", [7] * 10, 20)
    device.submit(second)
    while device.journeys["second"].ending is None:
        device.step()
    slots = [step.slot for step in settled(device) if isinstance(step, Settle)]
    assert slots == [1, 0]


@pytest.mark.parametrize("idle_tokens", [110, 70])
def test_what_was_used_longer_ago_makes_room_for_it(idle_tokens: int) -> None:
    device = served(replace(LIMITS, idle_tokens=idle_tokens))
    settled(device)
    second = Request("second", [7] * 40, 30)
    device.submit(second)
    while device.journeys["second"].ending is None:
        device.step()
    slots = [step.slot for step in settled(device) if isinstance(step, Settle)]
    assert slots == [1]
    assert device.scheduler.idle_tokens == 70


def test_what_was_used_later_makes_no_room_for_it() -> None:
    device = served(replace(LIMITS, idle_tokens=100, smallest_chunk=2))
    second = Request("second", [7] * 40, 1)
    device.submit(second)
    while device.journeys["second"].ending is None:
        device.step()
    assert settled(device) == []
    assert device.scheduler.idle_tokens == 80
