"""Whatever arrives, expires, breaks or leaves: nothing is lost, mixed up or forgotten, and nobody starves."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence, Set
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bise_daemon.scheduler.limits import Limits
from bise_daemon.scheduler.request import Ending, Phase, Priority, Request
from bise_daemon.scheduler.scheduler import Scheduler
from bise_daemon.scheduler.step import Decode, Work
from virtual_device import LinearCosts, Noise, Script, VirtualDevice

# With cheap tokens, guesses pay; with dear copies, holes stay.
_COSTS = [
    LinearCosts(),
    LinearCosts(margin=1.5, copied_ms=10.0),
    LinearCosts(base_ms=10.0, token_ms=0.05, entry_ms=0.0),
]
# Prompts that begin alike, so that there is something to find; 7 and 8 make texts that repeat themselves.
_STEMS = [[], [1] * 12, [1] * 20, [1] * 8 + [2] * 8, [7, 8] * 6]

_moments = st.none() | st.floats(0, 500)
_paces = st.none() | st.floats(0, 60)


class SchedulerMachine(RuleBasedStateMachine):
    """Drives a scheduler as the engine does; the virtual device checks every plan against a cache it believes in."""

    @initialize(
        slots=st.integers(1, 5),
        spare_slots=st.integers(0, 3),
        context=st.integers(4, 48),
        chunk=st.integers(2, 16),
        smallest_chunk=st.integers(1, 2),
        one_way=st.booleans(),
        mixes=st.booleans(),
        draft_tokens=st.sampled_from([0, 4]),
        known_tokens=st.sampled_from([1, 3, 16]),
        dictated=st.sampled_from([0, 1, 5]),
        costs=st.sampled_from(_COSTS),
        pinned=st.booleans(),
    )
    def start(
        self,
        slots: int,
        spare_slots: int,
        context: int,
        chunk: int,
        smallest_chunk: int,
        one_way: bool,
        mixes: bool,
        draft_tokens: int,
        known_tokens: int,
        dictated: int,
        costs: LinearCosts,
        pinned: bool,
    ) -> None:
        limits = Limits(
            slots,
            context,
            slots * context,
            chunk,
            spare_slots,
            idle_tokens=2 * context,
            ageing_ms=100.0,
            draft_tokens=draft_tokens,
            known_tokens=known_tokens,
            smallest_chunk=smallest_chunk,
            one_way=one_way,
            mixes=mixes,
        )
        self.scheduler = Scheduler(limits, costs)
        script = Script(choices=3, dictated=dictated)
        self.device = VirtualDevice(self.scheduler, noise=Noise(seed=slots, sigma=0.1), script=script)
        if pinned and spare_slots:
            self.device.pin(limits.all_slots - 1, ([1] * 16)[: context - 1])

    @property
    def open(self) -> list[str]:
        return [name for name, journey in self.device.journeys.items() if journey.ending is None]

    @rule(
        stem=st.sampled_from(_STEMS),
        tail=st.lists(st.integers(1, 3), max_size=12),
        max_tokens=st.integers(0, 12),
        stops_after=st.none() | st.integers(1, 12),
        priority=st.sampled_from(Priority),
        promised=st.booleans(),
        first_token_ms=_moments,
        total_ms=_moments,
        per_token_ms=_paces,
    )
    def submit(
        self,
        stem: Sequence[int],
        tail: Sequence[int],
        max_tokens: int,
        stops_after: int | None,
        priority: Priority,
        promised: bool,
        first_token_ms: float | None,
        total_ms: float | None,
        per_token_ms: float | None,
    ) -> None:
        prompt, now = [*stem, *tail], self.device.now
        if not self.scheduler.fits(len(prompt), max_tokens):
            return
        request = Request(
            f"r{len(self.device.journeys)}",
            prompt,
            max_tokens,
            None if total_ms is None else now + total_ms,
            None if first_token_ms is None else now + first_token_ms,
            per_token_ms,
            priority,
            promised,
            now,
        )
        self.device.submit(request, stops_after)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def abort(self, data: st.DataObject) -> None:
        self.device.abort(data.draw(st.sampled_from(self.open)))

    @rule(kv_share=st.floats(0, 1), idle_tokens=st.integers(0, 100))
    def limit(self, kv_share: float, idle_tokens: int) -> None:
        limits = self.scheduler.limits
        kv_budget_tokens = int(kv_share * limits.slots * limits.context_tokens)
        self.scheduler.limits = replace(limits, kv_budget_tokens=kv_budget_tokens, idle_tokens=idle_tokens)

    @rule(count=st.integers(1, 6))
    def steps(self, count: int) -> None:
        for _ in range(count):
            self._step()

    @rule()
    def interrupted_step(self) -> None:
        self._step(give_up=True)

    @rule(data=st.data())
    def breaking_step(self, data: st.DataObject) -> None:
        self._step(failing=data.draw(st.sets(st.sampled_from(self.open)) if self.open else st.just(set())))

    def _step(self, *, give_up: bool = False, failing: Collection[str] = ()) -> None:
        before = set(self.scheduler.running)
        self.device.planned = lambda plan: self._check_memory(before)
        self.device.step(give_up=give_up, failing=failing)
        self.scheduler.check_integrity()

    def _check_memory(self, before: Set[Request]) -> None:
        scheduler, limits = self.scheduler, self.scheduler.limits
        running = scheduler.running
        reserved_tokens = sum(request.reserved_tokens for request in running)
        assert scheduler.idle_tokens <= limits.idle_tokens
        if reserved_tokens > limits.kv_budget_tokens:
            # What runs may stay, but background work only alone; nobody joins; nothing idle is kept.
            assert scheduler.idle_tokens == 0
            assert len(running) == 1 or set(running) <= before
            assert len(running) == 1 or all(request.priority < Priority.BACKGROUND for request in running)
        else:
            assert reserved_tokens + scheduler.idle_tokens <= limits.kv_budget_tokens

    @invariant()
    def sound(self) -> None:
        if not hasattr(self, "scheduler"):
            return
        self.scheduler.check_integrity()
        here = [request.id for request in [*self.scheduler.waiting, *self.scheduler.running]]
        assert sorted(here) == sorted(self.open)

    def teardown(self) -> None:
        """Left alone, everything ends, and every answer is the one its prompt has when it is alone."""
        if not hasattr(self, "scheduler"):
            return
        for _ in range(20_000):
            if not self.scheduler.has_work:
                break
            self._step()
        assert not self.open
        assert not self.scheduler.running
        for journey in self.device.journeys.values():
            request = journey.request
            assert request.phase is Phase.ENDED
            assert request.output == self.device.script.answer(
                request.prompt, len(request.output), one_way=self.scheduler.limits.one_way
            )
            match journey.ending:
                case Ending.LENGTH:
                    assert len(request.output) == request.max_tokens
                case Ending.STOPPED:
                    assert len(request.output) == journey.stops_after
                case Ending.DEADLINE:
                    assert request.deadline_ms is not None
                    assert request.deadline_ms <= self.device.now


SchedulerMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestScheduler = pytest.mark.slow(SchedulerMachine.TestCase)


class Crowd:
    """A device on which there is always critical work, as much as `busy` requests at once."""

    def __init__(self, limits: Limits, busy: int, seed: int) -> None:
        self.device = VirtualDevice(Scheduler(limits, LinearCosts()), noise=Noise(seed, sigma=0.1))
        self.random = random.Random(seed)
        self.busy = busy
        self.longest_step_ms = 0.0

    def submit(self, name: str, priority: Priority, max_tokens: int) -> Request:
        prompt = [self.random.randrange(100) for _ in range(self.random.randrange(2, 60))]
        request = Request(name, prompt, max_tokens, priority=priority, arrived_ms=self.device.now)
        self.device.submit(request)
        return request

    def step(self) -> Work:
        """A step, with enough critical requests there."""
        journeys = self.device.journeys
        open_critical = sum(
            journey.ending is None and journey.request.priority is Priority.CRITICAL for journey in journeys.values()
        )
        for _ in range(self.busy - open_critical):
            self.submit(f"critical{len(journeys)}", Priority.CRITICAL, self.random.randrange(1, 20))
        began = self.device.now
        work = self.device.step()
        assert work is not None
        self.longest_step_ms = max(self.longest_step_ms, self.device.now - began)
        return work

    def served(self, work: Work) -> list[Request]:
        """Whom a step served."""
        ids = [row.request_id for row in work.rows] if isinstance(work, Decode) else [work.request_id]
        return [self.device.journeys[each].request for each in ids if each is not None]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), background=st.integers(1, 4), ageing_ms=st.sampled_from([100.0, 400.0]))
@pytest.mark.slow
def test_behind_endless_critical_work_who_runs_gets_a_step_in_turn(
    seed: int, background: int, ageing_ms: float
) -> None:
    crowd = Crowd(Limits(8, 512, 8 * 512, 64, ageing_ms=ageing_ms), busy=3, seed=seed)
    lower = [crowd.submit(f"lower{index}", Priority.BACKGROUND, 400) for index in range(background)]
    lower_served_ms = float("-inf")
    while crowd.device.now < 10 * ageing_ms * background:
        began = crowd.device.now
        served = crowd.served(crowd.step())
        if served[0] in lower or served[-1] in lower:
            assert began - lower_served_ms >= ageing_ms
            lower_served_ms = began
        for request in lower:
            if request.phase is not Phase.ENDED:
                assert request.slot is not None
                assert crowd.device.now - request.served_ms <= (ageing_ms + crowd.longest_step_ms) * (background + 1)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000))
@pytest.mark.slow
def test_behind_critical_work_that_wants_every_slot_background_work_ends_at_last(seed: int) -> None:
    ageing_ms = 200.0
    limits = Limits(2, 256, 2 * 256, 64, spare_slots=2, idle_tokens=512, ageing_ms=ageing_ms)
    crowd = Crowd(limits, busy=4, seed=seed)
    request = crowd.submit("lower", Priority.BACKGROUND, 5)
    steps = len(request.prompt) + request.max_tokens
    while request.phase is not Phase.ENDED:
        crowd.step()
        # Its class in two ages, one more for its step, and a slot must come free.
        assert crowd.device.now <= steps * (3 * ageing_ms + 100 * crowd.longest_step_ms)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), waiting=st.integers(0, 10))
@pytest.mark.slow
def test_however_long_background_work_waits_critical_work_starts_at_once(seed: int, waiting: int) -> None:
    crowd = Crowd(Limits(4, 512, 4 * 512, 64, ageing_ms=50.0), busy=0, seed=seed)
    for index in range(4 + waiting):
        crowd.submit(f"lower{index}", Priority.BACKGROUND, 200)
    while crowd.device.now < 500:
        crowd.step()
    first = crowd.submit("critical", Priority.CRITICAL, 5)
    crowd.step()
    assert first.slot is not None
    while not first.begun:
        crowd.step()
    alone_ms = LinearCosts().prefill_ms(len(first.prompt), 0) + 3 * crowd.longest_step_ms
    assert crowd.device.now - first.arrived_ms <= alone_ms
