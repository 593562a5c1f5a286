"""Admission with what is known now, and what became of its promises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import pytest

from bise_daemon.admission import Ask, Capacity, Grant
from bise_daemon.engine.dispatcher import Dispatcher
from bise_daemon.engine.events import Finish, Finished, Times
from bise_daemon.engine.outlook import Outlook
from bise_daemon.errors import Reason, RequestError
from bise_daemon.memory.governor import MemoryLevel, Verdict
from bise_daemon.reception import Admitted, Reception, told
from bise_daemon.scheduler.forecast import Standing
from bise_daemon.scheduler.limits import Limits
from bise_daemon.scheduler.request import Priority, Request
from virtual_device import LinearCosts

LIMITS = Limits(4, 512, 2048, 128, idle_tokens=256, step_ms=50.0)
CAPACITY = Capacity(LIMITS, context_limit=512, vocab_size=1000, most_open_requests=3)
# A prompt of n tokens takes n ms, a token 10 ms.
COSTS = LinearCosts(base_ms=0.0, token_ms=1.0, row_ms=10.0, entry_ms=0.0)
PROMPT = list(range(100))
ASK = Ask(100, 0, 11, None, False, Priority.INTERACTIVE, 1000.0, 9000.0, None, None, None)


@dataclass
class StillEngine:
    """Runs nothing, and remembers what it was told."""

    outlook: Outlook = field(default_factory=Outlook)
    limits: list[Limits] = field(default_factory=list)
    probes: int = 0

    def probe(self) -> None:
        self.probes += 1

    def limit(self, limits: Limits) -> None:
        self.limits.append(limits)


@dataclass
class StillDispatcher:
    """Requests that never move."""

    open: list[Standing] = field(default_factory=list)
    engine: StillEngine = field(default_factory=StillEngine)

    @property
    def open_requests(self) -> int:
        return len(self.open)

    def standings(self) -> list[Standing]:
        return [replace(standing) for standing in self.open]


GRANT = Grant(11, 100.0, 200.0)


class Desk:
    def __init__(self, *others: Request) -> None:
        self.now = 1000.0
        self.dispatcher = StillDispatcher([Standing.of(request) for request in others])
        self.engine = self.dispatcher.engine
        self.reception = Reception(CAPACITY, cast(Dispatcher, self.dispatcher), COSTS, lambda: self.now)

    def settle(
        self,
        ask: Ask = ASK,
        finish: Finish = Finish.LENGTH,
        *,
        tokens: int = 11,
        first_ms: float | None = 100.0,
        total_ms: float = 200.0,
        gap_ms: float = 10.0,
    ) -> None:
        """Ends a request that was promised its first token after 100 ms and its end after 200."""
        first = None if first_ms is None else ask.arrived_ms + first_ms
        times = Times(ask.arrived_ms, first, ask.arrived_ms + total_ms, None, gap_ms)
        self.reception.settle(Admitted(ask, GRANT, GRANT), Finished(finish, "", tokens, times))


def running(name: str, max_tokens: int, *, promised: bool = False) -> Request:
    request = Request(name, [1, 2], max_tokens, deadline_ms=100_000.0, promised=promised)
    request.slot, request.computed_tokens, request.output = 0, 2, [3]
    request.phase = request.phase.DECODE
    return request


class TestAdmit:
    def test_an_idle_device_counts_from_now(self) -> None:
        desk = Desk()
        desk.now = 1030.0
        assert desk.reception.admit(PROMPT, ASK).grant == Grant(11, 130.0, 230.0)

    def test_a_busy_one_from_the_end_of_the_present_step(self) -> None:
        desk = Desk()
        desk.now = 1030.0
        desk.engine.outlook = Outlook(at_ms=1050.0, busy=True)
        assert desk.reception.admit(PROMPT, ASK).grant.predicted_first_token_ms == 150.0

    def test_a_step_that_takes_longer_than_foreseen_may_end_now(self) -> None:
        desk = Desk()
        desk.now = 1030.0
        desk.engine.outlook = Outlook(at_ms=1010.0, busy=True)
        assert desk.reception.admit(PROMPT, ASK).grant.predicted_first_token_ms == 130.0

    def test_what_the_cache_holds_is_counted_but_for_the_last_step(self) -> None:
        desk = Desk()
        desk.engine.outlook = Outlook(prefixes=[(PROMPT, 60), ([*PROMPT, 7], 101), ([9], 1)])
        admitted = desk.reception.admit(PROMPT, ASK)
        assert admitted.ask.cached_tokens == 98
        assert admitted.grant.predicted_first_token_ms == 2.0

    def test_it_is_the_schedulers_request(self) -> None:
        ask = replace(ASK, cached_tokens=40, total_ms=900.0, first_token_ms=300.0, per_token_ms=30.0)
        request = Admitted(ask, replace(GRANT, max_tokens=7), GRANT).request("a", PROMPT)
        assert (request.id, request.prompt, request.max_tokens) == ("a", PROMPT, 7)
        assert (request.deadline_ms, request.first_token_by_ms, request.per_token_ms) == (9000.0, 1300.0, 30.0)
        assert (request.priority, request.promised, request.arrived_ms) == (Priority.INTERACTIVE, True, 1000.0)
        standing = Standing.of(request)
        assert (standing.computed_tokens, standing.left_to_prefill) == (40, 60)

    def test_patience_alone_is_no_promise(self) -> None:
        assert not Admitted(ASK, GRANT, GRANT).request("a", PROMPT).promised

    def test_the_queue_is_bounded(self) -> None:
        desk = Desk(*(running(name, 5) for name in "abc"))
        with pytest.raises(RequestError) as caught:
            desk.reception.admit(PROMPT, ASK)
        assert caught.value.reason is Reason.QUEUE_FULL

    def test_refusals_are_counted_by_reason(self) -> None:
        desk = Desk()
        for reason in (Reason.BUDGET, Reason.MEMORY, Reason.BUDGET):
            desk.reception.refused(RequestError(reason, ""))
        assert desk.reception.refusals == {"BUDGET": 2, "MEMORY": 1}

    @pytest.mark.parametrize(
        ("reason", "busy", "probes"), [(Reason.BUDGET, False, 1), (Reason.BUDGET, True, 0), (Reason.MEMORY, False, 0)]
    )
    def test_a_refusal_of_an_idle_device_renews_its_figures(self, reason: Reason, busy: bool, probes: int) -> None:
        desk = Desk()
        desk.engine.outlook = Outlook(busy=busy)
        desk.reception.refused(RequestError(reason, ""))
        assert desk.engine.probes == probes

    def test_broken_promises_widen_the_margin_of_the_next(self) -> None:
        desk = Desk()
        ask = replace(ASK, first_token_ms=115.0)
        assert desk.reception.admit(PROMPT, ask).grant.predicted_first_token_ms == 100.0
        for _ in range(20):
            desk.settle(ask, first_ms=120.0)
        with pytest.raises(RequestError, match="first_token_ms"):
            desk.reception.admit(PROMPT, ask)


class TestTold:
    def told(self, **stated: float) -> tuple[float, float]:
        """What a caller is told once forecasts of its size have come to the double."""
        desk = Desk()
        for _ in range(24):
            desk.settle(first_ms=200.0, total_ms=400.0)
        said = told(replace(ASK, **stated), GRANT, desk.reception.first_token, desk.reception.total)  # type: ignore[arg-type]
        return said.predicted_first_token_ms, said.predicted_total_ms

    def test_a_prediction_is_what_forecasts_usually_come_to(self) -> None:
        assert self.told() == (200.0, 400.0)

    def test_a_promise_excludes_what_is_later(self) -> None:
        assert self.told(first_token_ms=150.0, total_ms=300.0) == (150.0, 300.0)

    def test_a_first_token_is_never_told_after_the_end(self) -> None:
        assert self.told(total_ms=180.0) == (180.0, 180.0)


class TestLikelyLengths:
    ASK = replace(ASK, total_ms=280.0, deadline_ms=1280.0, whole=True)

    def learned(self, other: Request, lengths: Sequence[int]) -> Desk:
        desk = Desk(other)
        for tokens in lengths:
            desk.settle(finish=Finish.EOS, tokens=tokens, total_ms=90.0 + 10 * tokens + 10)
        return desk

    def first_token_ms(self, desk: Desk) -> float:
        """Of a request that waits for the other to end."""
        full = replace(CAPACITY, limits=replace(LIMITS, slots=1))
        desk.reception.capacity = full
        return desk.reception.admit(PROMPT, ASK).grant.predicted_first_token_ms

    def test_others_end_as_most_answers_did(self) -> None:
        desk = self.learned(running("other", 400), [3, 4] * 5)
        assert self.first_token_ms(desk) == 4 * 10.0 + 100.0

    def test_nine_answers_are_too_few_to_know(self) -> None:
        desk = self.learned(running("other", 400), [4] * 9)
        assert self.first_token_ms(desk) == 399 * 10.0 + 100.0

    def test_what_was_promised_is_expected_whole(self) -> None:
        desk = self.learned(running("other", 400, promised=True), [4] * 10)
        assert self.first_token_ms(desk) == 399 * 10.0 + 100.0

    def test_answers_that_were_cut_teach_nothing(self) -> None:
        desk = Desk(running("other", 400))
        for _ in range(20):
            desk.settle(finish=Finish.LENGTH, tokens=4)
        assert self.first_token_ms(desk) == 399 * 10.0 + 100.0


class TestSettle:
    @pytest.mark.parametrize(
        ("stated", "became", "met"),
        [
            ({"total_ms": 200.0}, {}, True),
            ({"total_ms": 199.0}, {}, False),
            ({"first_token_ms": 100.0}, {}, True),
            ({"first_token_ms": 99.0}, {}, False),
            ({"per_token_ms": 10.0}, {}, True),
            ({"per_token_ms": 9.0}, {}, False),
            ({"total_ms": 300.0}, {"finish": Finish.DEADLINE}, False),
            ({"first_token_ms": 300.0}, {"first_ms": None}, False),
        ],
    )
    def test_stated_budgets_are_met_or_missed(
        self, stated: dict[str, float], became: dict[str, object], met: bool
    ) -> None:
        desk = Desk()
        desk.settle(replace(ASK, **stated), **became)  # type: ignore[arg-type]
        assert (desk.reception.met.total(), desk.reception.missed.total()) == (int(met), int(not met))

    def test_who_stated_none_counts_as_neither(self) -> None:
        desk = Desk()
        desk.settle()
        desk.settle(first_ms=None)
        assert (desk.reception.met.total(), desk.reception.missed.total()) == (0, 0)

    def test_predictions_are_compared_with_what_became_of_them(self) -> None:
        desk = Desk()
        desk.settle(first_ms=200.0, total_ms=400.0)
        assert desk.reception.first_token.errors.p50 == 0.5
        assert desk.reception.total.errors.p50 == 0.5

    def test_an_answer_that_ended_early_is_compared_with_its_share(self) -> None:
        desk = Desk()
        desk.settle(finish=Finish.EOS, tokens=6, total_ms=150.0)
        assert desk.reception.total.errors.p50 == 0.0

    def test_a_deadline_says_nothing_about_the_total(self) -> None:
        desk = Desk()
        desk.settle(finish=Finish.DEADLINE)
        assert desk.reception.total.errors.samples == 0
        assert desk.reception.first_token.errors.samples == 1


class TestGovern:
    def test_memory_changes_what_there_is(self) -> None:
        desk = Desk()
        desk.reception.govern(Verdict(MemoryLevel.TIGHT, 700, 128))
        assert desk.engine.limits == [replace(LIMITS, kv_budget_tokens=700, idle_tokens=0)]
        assert desk.reception.capacity.context_limit == 128
        assert desk.reception.level is MemoryLevel.TIGHT
        with pytest.raises(RequestError) as caught:
            desk.reception.admit(list(range(200)), replace(ASK, prompt_tokens=200))
        assert caught.value.reason is Reason.MEMORY

    def test_the_engine_hears_of_changes_only(self) -> None:
        desk = Desk()
        for level, context in ((MemoryLevel.TIGHT, 128), (MemoryLevel.CRITICAL, 64), (MemoryLevel.TIGHT, 128)):
            desk.reception.govern(Verdict(level, 700, context))
        assert len(desk.engine.limits) == 1

    def test_what_recovers_is_as_before_and_never_more(self) -> None:
        desk = Desk()
        desk.reception.govern(Verdict(MemoryLevel.CRITICAL, 100, 16))
        desk.reception.govern(Verdict(MemoryLevel.NORMAL, LIMITS.kv_budget_tokens, 100_000))
        assert desk.reception.capacity == CAPACITY
        assert desk.engine.limits[-1] == LIMITS


def test_the_longest_step_is_a_chunk_or_a_full_batch() -> None:
    assert Desk().reception.longest_step_ms == 50.0
    slow = Reception(CAPACITY, cast(Dispatcher, StillDispatcher()), LinearCosts(base_ms=100.0, row_ms=1.0), lambda: 0.0)
    assert slow.longest_step_ms == 104.0
