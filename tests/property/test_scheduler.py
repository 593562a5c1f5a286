"""Whatever arrives, expires or leaves: nothing is lost, mixed up or forgotten."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bise_daemon.scheduler.request import Ending, Request
from bise_daemon.scheduler.scheduler import Limits, Scheduler
from bise_daemon.scheduler.step import Decode, Outcome, Prefill


class CacheModel:
    """A cache that knows, for each slot, which tokens of which request it holds; reading another's is an error."""

    def __init__(self, slots: int) -> None:
        self.slots: list[list[tuple[str, int]]] = [[] for _ in range(slots)]

    def write(self, slot: int, position: int, request_id: str, token: int) -> None:
        held = self.slots[slot]
        assert position == len(held), f"slot {slot}: a gap or an overwrite at {position} of {len(held)}"
        assert all(owner == request_id for owner, _ in held), f"slot {slot} is another request's"
        held.append((request_id, token))


class SchedulerMachine(RuleBasedStateMachine):
    """Drives a scheduler as the engine does, and checks every plan against a cache it believes in."""

    @initialize(
        slots=st.integers(1, 5),
        context=st.integers(4, 24),
        budget_share=st.floats(0.3, 1.0),
        chunk=st.integers(1, 8),
    )
    def start(self, slots: int, context: int, budget_share: float, chunk: int) -> None:
        self.limits = Limits(slots, context, max(context, int(slots * context * budget_share)), chunk)
        self.scheduler = Scheduler(self.limits)
        self.cache = CacheModel(slots)
        self.open: dict[str, Request] = {}
        self.answers: dict[str, list[int]] = {}
        self.now = 0.0
        self.count = 0

    @rule(prompt=st.integers(1, 24), max_tokens=st.integers(1, 12), budget_ms=st.none() | st.floats(0, 50))
    def submit(self, prompt: int, max_tokens: int, budget_ms: float | None) -> None:
        if not self.scheduler.fits(prompt, max_tokens):
            return
        self.count += 1
        name = f"r{self.count}"
        tokens = [self.count * 1000 + place for place in range(prompt)]
        deadline = None if budget_ms is None else self.now + budget_ms
        self.open[name] = Request(name, tokens, max_tokens, deadline)
        self.answers[name] = []
        self.scheduler.submit(self.open[name])

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def abort(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.open)))
        assert self.scheduler.abort(name)
        del self.open[name]

    @rule(took_ms=st.floats(0, 5), data=st.data())
    def step(self, took_ms: float, data: st.DataObject) -> None:
        plan = self.scheduler.plan(self.now)
        for name in plan.expired:
            deadline = self.open.pop(name).deadline_ms
            assert deadline is not None
            assert deadline <= self.now
        for slot in plan.released:
            self.cache.slots[slot] = []
        for move in plan.moves:
            assert self.cache.slots[move.target] == []
            assert len(self.cache.slots[move.source]) == move.tokens
            self.cache.slots[move.target], self.cache.slots[move.source] = self.cache.slots[move.source], []
        self.now += took_ms
        outcomes = {}
        for name in self._run(plan.work):
            token = self.count * 1000 + len(self.answers[name])
            self.answers[name].append(token)
            outcomes[name] = Outcome(token, data.draw(st.booleans()) and data.draw(st.booleans()))
        endings = self.scheduler.commit(plan, outcomes)
        for name, ending in endings.items():
            request = self.open.pop(name)
            if ending is Ending.LENGTH:
                assert len(self.answers[name]) == request.max_tokens
            else:
                assert outcomes[name].stopped
        assert self.open or plan.work is None or endings

    def _run(self, work: Prefill | Decode | None) -> list[str]:
        """Checks and carries out a plan's work on the believed cache; returns who samples."""
        match work:
            case Prefill(request_id=name, slot=slot, start=start, tokens=tokens, samples=samples):
                assert 1 <= len(tokens) <= self.limits.prefill_chunk_tokens
                assert list(tokens) == list(self.open[name].prompt[start : start + len(tokens)])
                for offset, token in enumerate(tokens):
                    self.cache.write(slot, start + offset, name, token)
                return [name] if samples else []
            case Decode(first_slot=first, rows=rows):
                assert rows[0].request_id is not None
                assert rows[-1].request_id is not None
                for slot, row in enumerate(rows, first):
                    if row.request_id is None:
                        assert row.position >= len(self.cache.slots[slot])
                        assert row.position < self.limits.context_tokens
                        continue
                    assert row.token == self.answers[row.request_id][-1]
                    self.cache.write(slot, row.position, row.request_id, row.token)
                return [row.request_id for row in rows if row.request_id is not None]
            case None:
                return []

    @invariant()
    def sound(self) -> None:
        if not hasattr(self, "scheduler"):
            return
        self.scheduler.check_integrity()
        assert {each.id for each in self.scheduler._requests()} == set(self.open)

    def teardown(self) -> None:
        """Left alone, everything ends: nobody starves, no slot stays behind."""
        if not hasattr(self, "scheduler"):
            return
        for _ in range(100_000):
            if not self.scheduler.has_work:
                break
            plan = self.scheduler.plan(self.now)
            for slot in plan.released:
                self.cache.slots[slot] = []
            for move in plan.moves:
                self.cache.slots[move.target], self.cache.slots[move.source] = self.cache.slots[move.source], []
            sampled = self._run(plan.work)
            for name in sampled:
                self.answers[name].append(1)
            self.scheduler.commit(plan, {name: Outcome(1, False) for name in sampled})
        assert self.scheduler.slots_used == 0
        assert self.scheduler.waiting == 0


SchedulerMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestScheduler = SchedulerMachine.TestCase
