"""The engine as asyncio sees it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable

import pytest

from bise_daemon.engine.detokenize import ByteDetokenizer, StopMatcher
from bise_daemon.engine.dispatcher import Answer, Dispatcher
from bise_daemon.engine.events import Event, Failed, Finished
from bise_daemon.engine.generation import Generation, Piece
from bise_daemon.engine.loop import Deliver, Engine
from bise_daemon.engine.sampling import Sampler, SamplingParams
from bise_daemon.errors import Reason
from bise_daemon.scheduler.limits import Limits
from bise_daemon.scheduler.request import Request
from bise_daemon.scheduler.scheduler import Scheduler
from scripted_engine import ScriptedRunner, StepLog, answer
from virtual_device import LinearCosts

_PATIENCE_S = 20


class Desk:
    """A dispatcher over an engine on the scripted model; it starts when the test says so."""

    def __init__(self) -> None:
        limits = Limits(slots=2, context_tokens=64, kv_budget_tokens=128, prefill_chunk_tokens=4)
        self.runner = ScriptedRunner(limits.slots, limits.context_tokens)
        self.started = False

        def make_engine(deliver: Deliver) -> Engine:
            return Engine(Scheduler(limits, LinearCosts()), self.runner, self.runner, StepLog(), deliver)

        self.dispatcher = Dispatcher(make_engine)

    def start(self) -> None:
        self.started = True
        self.dispatcher.engine.start()

    def submit(self, name: str, prompt: list[int], max_tokens: int) -> Answer:
        generation = Generation(
            Sampler(SamplingParams(), prompt),
            ByteDetokenizer(lambda token: f"{token} ".encode()),
            StopMatcher(()),
            frozenset(),
        )
        return self.dispatcher.submit(Request(name, prompt, max_tokens), generation)


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = Desk()
    yield desk
    if desk.started:
        await asyncio.to_thread(desk.dispatcher.engine.stop)


async def rest(open_answer: Answer) -> list[Event]:
    """All events of an answer from here on."""
    events: list[Event] = []
    while not events or not isinstance(events[-1], Finished | Failed):
        events += await asyncio.wait_for(open_answer.next_events(), _PATIENCE_S)
    return events


def tokens(events: list[Event]) -> list[int]:
    return [event.choice.token_id for event in events if isinstance(event, Piece) and event.choice is not None]


async def test_each_answer_gets_its_own_events(desk: Desk) -> None:
    desk.start()
    with desk.submit("a", [5], 9) as first, desk.submit("b", [6, 7], 4) as second:
        assert tokens(await rest(second)) == answer([6, 7], 4)
        assert tokens(await rest(first)) == answer([5], 9)


async def test_events_that_piled_up_come_together(desk: Desk) -> None:
    with desk.submit("slow", [5], 9) as slow, desk.submit("after", [6], 30) as after:
        desk.start()
        await rest(after)
        events = await slow.next_events()
        assert tokens(events) == answer([5], 9)
        assert isinstance(events[-1], Finished)


async def test_open_requests_are_counted_until_they_are_closed(desk: Desk) -> None:
    desk.start()
    assert desk.dispatcher.open_requests == 0
    with desk.submit("a", [5], 2) as first:
        assert desk.dispatcher.open_requests == 1
        with desk.submit("b", [5], 2):
            assert desk.dispatcher.open_requests == 2
        await rest(first)
        assert desk.dispatcher.open_requests == 1
    assert desk.dispatcher.open_requests == 0


async def test_leaving_early_aborts_and_leaving_at_the_end_does_not(desk: Desk) -> None:
    with desk.submit("leaver", [5], 40):
        pass
    desk.start()
    with desk.submit("stayer", [6], 3) as stayer:
        assert tokens(await rest(stayer)) == answer([6], 3)
    with desk.submit("last", [6], 1) as last:
        await rest(last)
    assert desk.dispatcher.engine.counters.cancelled == 1
    assert desk.dispatcher.engine.counters.finished == 2


async def test_a_task_that_is_cancelled_while_it_waits_aborts(desk: Desk) -> None:
    waiting = asyncio.Event()

    async def ask() -> None:
        with desk.submit("a", [5], 40) as open_answer:
            waiting.set()
            await rest(open_answer)

    task = asyncio.create_task(ask())
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert desk.dispatcher.open_requests == 0
    desk.start()
    with desk.submit("b", [6], 1) as after:
        await rest(after)
    assert desk.dispatcher.engine.counters.cancelled == 1


async def test_idle_is_when_nobody_is_here(desk: Desk) -> None:
    await asyncio.wait_for(desk.dispatcher.wait_idle(), _PATIENCE_S)
    desk.start()
    with desk.submit("a", [5], 3) as open_answer:
        idle = asyncio.create_task(desk.dispatcher.wait_idle())
        await rest(open_answer)
        assert not idle.done()  # its caller may still be reading
    await asyncio.wait_for(idle, _PATIENCE_S)


async def test_closing_twice_is_closing(desk: Desk) -> None:
    desk.start()
    open_answer = desk.submit("a", [5], 3)
    for _ in range(2):
        with open_answer:
            pass
    assert desk.dispatcher.open_requests == 0


async def test_one_id_is_one_request(desk: Desk) -> None:
    with desk.submit("a", [5], 3), pytest.raises(AssertionError):
        desk.submit("a", [5], 3)


async def test_what_comes_after_the_end_fails_at_once(desk: Desk) -> None:
    desk.start()
    await asyncio.to_thread(desk.dispatcher.engine.stop)
    with desk.submit("late", [5], 3) as late:
        (event,) = await rest(late)
    assert isinstance(event, Failed)
    assert event.error.reason is Reason.DRAINING
    assert desk.dispatcher.open_requests == 0


async def test_a_failing_engine_reaches_everyone(desk: Desk) -> None:
    def fail() -> None:
        raise RuntimeError("the disk burns")

    desk.runner.on_step[1] = fail
    with desk.submit("a", [5], 9) as first, desk.submit("b", [5], 9) as second:
        desk.start()
        for each in (first, second):
            last = (await rest(each))[-1]
            assert isinstance(last, Failed)
            assert "the disk burns" in last.error.message


def test_an_event_loop_that_is_closed_ends_the_engine() -> None:
    async def begin(hold: Callable[[], None]) -> Desk:
        desk = Desk()
        desk.runner.on_step[0] = hold
        desk.submit("a", [5], 40)
        desk.start()
        return desk

    closed = threading.Event()

    def hold() -> None:
        assert closed.wait(_PATIENCE_S)

    with asyncio.Runner() as runner:
        desk = runner.run(begin(hold))
    closed.set()
    assert isinstance(desk.dispatcher.engine.ended.exception(_PATIENCE_S), RuntimeError)


async def test_standings_are_of_all_who_are_open_whether_the_engine_has_seen_them_or_not(desk: Desk) -> None:
    dispatcher = desk.dispatcher
    assert dispatcher.standings() == []
    with desk.submit("a", [5] * 6, 3) as first, desk.submit("b", [6], 40):
        standings = dispatcher.standings()
        assert [(each.id, each.running, each.left_to_prefill) for each in standings] == [
            ("a", False, 6),
            ("b", False, 1),
        ]
        assert standings[0].turn < standings[1].turn
        reached, go_on = threading.Event(), threading.Event()

        def hold() -> None:
            reached.set()
            assert go_on.wait(_PATIENCE_S)

        desk.runner.on_step[2] = hold
        desk.start()
        assert await asyncio.to_thread(reached.wait, _PATIENCE_S)
        with desk.submit("late", [7] * 3, 2) as late:
            seen = {each.id: (each.running, each.computed_tokens) for each in dispatcher.standings()}
            assert seen.keys() == {"a", "b", "late"}
            assert (seen["a"][0], seen["late"]) == (True, (False, 0))
            go_on.set()
            await rest(late)
        await rest(first)
    assert dispatcher.standings() == []


async def test_standings_may_be_moved_ahead_without_harm(desk: Desk) -> None:
    with desk.submit("a", [5] * 6, 3):
        for _ in range(2):
            (standing,) = desk.dispatcher.standings()
            assert standing.left_to_prefill == 6
            standing.left_to_prefill = 0


async def test_who_left_unseen_stands_nowhere(desk: Desk) -> None:
    with desk.submit("leaver", [5], 40):
        pass
    with desk.submit("stayer", [6], 3) as stayer:
        assert [each.id for each in desk.dispatcher.standings()] == ["stayer"]
        desk.start()
        await rest(stayer)
    with desk.submit("next", [7], 1) as following:
        assert [each.id for each in desk.dispatcher.standings()] == ["next"]
        await rest(following)
