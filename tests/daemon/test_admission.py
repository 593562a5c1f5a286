"""What a request is granted, or why it is refused."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bise_daemon.admission import Admission, Ask, Capacity, Grant, Margins, check_prompt, check_queue
from bise_daemon.errors import Reason, RequestError
from bise_daemon.scheduler.forecast import Standing
from bise_daemon.scheduler.limits import Limits
from bise_daemon.scheduler.request import Priority, Request
from bise_daemon.scheduler.scheduler import Scheduler
from virtual_device import Journey, LinearCosts, VirtualDevice

SMALL = Limits(1, 32, 32, 8)
CAPACITY = Capacity(SMALL, context_limit=32, vocab_size=100, most_open_requests=4)

LIMITS = Limits(8, 2048, 8 * 2048, 128, step_ms=1e9, ageing_ms=1e9)
EXACT = Margins(1.0, 1.0)


@dataclass(frozen=True)
class RoundCosts(LinearCosts):
    """1 ms for a token of a prompt, 10 ms for one of an answer, and 1 ms more for each row beside it."""

    def decode_ms(self, rows: int, context_tokens: int) -> float:
        return 9.0 + rows


COSTS = RoundCosts(base_ms=0.0, token_ms=1.0, entry_ms=0.0)
ASK = Ask(
    prompt_tokens=100,
    cached_tokens=0,
    max_tokens=51,
    least_tokens=None,
    whole=False,
    priority=Priority.INTERACTIVE,
    arrived_ms=0.0,
    deadline_ms=120_000.0,
    total_ms=None,
    first_token_ms=None,
    per_token_ms=None,
)


def total(total_ms: float, **changes: object) -> Ask:
    return replace(ASK, total_ms=total_ms, deadline_ms=total_ms, **changes)  # type: ignore[arg-type]


def other(name: str = "other", **changes: object) -> Standing:
    """One that waits with a prompt of 100 tokens, for 51."""
    standing = Standing.of(Request(name, range(100), 51))
    for key, value in changes.items():
        setattr(standing, key, value)
    return standing


def grant(ask: Ask, *others: Standing, margins: Margins = EXACT, now: float = 0.0) -> Grant:
    return Admission(LIMITS, COSTS, margins, others, now).grant(ask, ask.max_tokens or 1000)


def refusal(ask: Ask, *others: Standing, margins: Margins = EXACT, now: float = 0.0) -> RequestError:
    with pytest.raises(RequestError) as caught:
        grant(ask, *others, margins=margins, now=now)
    assert caught.value.reason is Reason.BUDGET
    assert "expected" in caught.value.message
    assert "got" in caught.value.message
    return caught.value


class TestPrompt:
    @pytest.mark.parametrize(
        ("prompt_tokens", "asked", "room"),
        [(1, 5, 5), (1, None, 31), (1, 31, 31), (1, 32, 31), (31, None, 1), (31, 9, 1), (10, 2**32 - 1, 22)],
    )
    def test_the_answer_has_room_for_what_was_asked_or_what_is_left(
        self, prompt_tokens: int, asked: int | None, room: int
    ) -> None:
        assert check_prompt(CAPACITY, [5] * prompt_tokens, asked) == room

    @pytest.mark.parametrize(
        ("prompt", "max_tokens", "least_tokens", "reason", "numbers"),
        [
            ([], 5, 1, Reason.EMPTY_PROMPT, {}),
            ([5, 100], 5, 1, Reason.INVALID_TOKEN_ID, {"token_id": 100, "vocab_size": 100}),
            ([5], 0, 1, Reason.INVALID_OPTION, {"field": "max_tokens"}),
            (
                [5] * 32,
                None,
                1,
                Reason.CONTEXT_OVERFLOW,
                {"prompt_tokens": 32, "context_limit": 32, "least_tokens": 1},
            ),
            (
                [5] * 20,
                None,
                13,
                Reason.CONTEXT_OVERFLOW,
                {"prompt_tokens": 20, "context_limit": 32, "least_tokens": 13},
            ),
        ],
    )
    def test_a_refusal_has_its_reason_and_numbers(
        self, prompt: list[int], max_tokens: int | None, least_tokens: int, reason: Reason, numbers: dict[str, object]
    ) -> None:
        with pytest.raises(RequestError) as caught:
            check_prompt(CAPACITY, prompt, max_tokens, least_tokens)
        assert caught.value.reason is reason
        assert dict(caught.value.numbers) == numbers
        assert caught.value.retry_after_ms is None
        assert "expected" in caught.value.message
        assert caught.value.message.endswith(".")

    def test_what_does_not_fit_only_because_memory_is_short_may_try_again(self) -> None:
        with pytest.raises(RequestError) as caught:
            check_prompt(replace(CAPACITY, context_limit=16), [5] * 20, None)
        assert caught.value.reason is Reason.MEMORY
        assert caught.value.retry_after_ms is not None
        assert caught.value.numbers["full_context_limit"] == 32

    @given(st.integers(1, 40), st.none() | st.integers(1, 60), st.integers(1, 40))
    def test_what_there_is_room_for_can_always_run(self, prompt_tokens: int, asked: int | None, context: int) -> None:
        limits = Limits(1, context, context, 8)
        capacity = Capacity(limits, context, 100, 1)
        if prompt_tokens >= context:
            with pytest.raises(RequestError, match="CONTEXT_OVERFLOW"):
                check_prompt(capacity, [5] * prompt_tokens, asked)
            return
        room = check_prompt(capacity, [5] * prompt_tokens, asked)
        assert Scheduler(limits, COSTS).fits(prompt_tokens, room)
        assert asked is None or room <= asked


def test_the_last_place_can_be_taken_and_no_more() -> None:
    check_queue(CAPACITY, 3)
    with pytest.raises(RequestError) as caught:
        check_queue(CAPACITY, 4)
    assert caught.value.reason is Reason.QUEUE_FULL
    assert dict(caught.value.numbers) == {"open_requests": 4, "most_open_requests": 4}
    assert caught.value.retry_after_ms is not None


class TestAlone:
    """100 ms for the prompt, and 10 for each token after the first."""

    def test_who_states_no_budget_gets_all_with_a_prediction(self) -> None:
        assert grant(ASK) == Grant(51, 100.0, 600.0)

    def test_predictions_count_from_arrival(self) -> None:
        assert grant(replace(ASK, arrived_ms=-30.0)) == Grant(51, 130.0, 630.0)

    def test_what_is_in_the_cache_takes_no_time(self) -> None:
        assert grant(replace(ASK, cached_tokens=90)) == Grant(51, 10.0, 510.0)

    def test_an_answer_that_ended_early_was_predicted_in_proportion(self) -> None:
        assert grant(ASK).predicted_ms(26) == 350.0

    @pytest.mark.parametrize(
        ("total_ms", "margin", "tokens"), [(600.0, 1.0, 51), (599.0, 1.0, 50), (350.0, 1.0, 26), (360.0, 1.2, 21)]
    )
    def test_a_total_is_met_with_fewer_tokens(self, total_ms: float, margin: float, tokens: int) -> None:
        given = grant(total(total_ms), margins=Margins(1.0, margin))
        assert tokens - 1 <= given.max_tokens <= tokens
        assert given.predicted_total_ms * margin <= total_ms

    @pytest.mark.parametrize(
        ("ask", "missed", "needed_ms", "tokens"),
        [
            (total(95.0), "total_ms", 100.0, 1),
            (total(400.0, least_tokens=40), "total_ms", 490.0, 40),
            (total(599.0, whole=True), "total_ms", 600.0, 51),
            (replace(ASK, first_token_ms=99.0), "first_token_ms", 100.0, 51),
            (replace(ASK, per_token_ms=9.9), "per_token_ms", 10.0, 51),
        ],
    )
    def test_what_can_never_be_met_is_refused_with_the_numbers(
        self, ask: Ask, missed: str, needed_ms: float, tokens: int
    ) -> None:
        error = refusal(ask)
        assert error.numbers["missed"] == missed
        assert error.numbers["needed_ms"] == needed_ms
        assert error.numbers["granted_max_tokens"] == tokens
        assert error.numbers["open_requests"] == 0
        assert error.retry_after_ms is None
        assert "idle" in error.message

    @pytest.mark.parametrize(
        "ask", [total(600.0, whole=True), replace(ASK, first_token_ms=100.0), replace(ASK, per_token_ms=10.0)]
    )
    def test_what_can_just_be_met_is_granted(self, ask: Ask) -> None:
        assert grant(ask).max_tokens == 51

    def test_who_wants_all_of_no_certain_number_takes_what_fits(self) -> None:
        assert grant(total(350.0, whole=True, max_tokens=None)).max_tokens in (25, 26)

    def test_margins_belong_to_what_is_still_to_come(self) -> None:
        ask = replace(ASK, arrived_ms=-100.0, first_token_ms=220.0)
        assert grant(ask, margins=Margins(1.2, 1.0)).predicted_first_token_ms == 200.0
        refusal(ask, margins=Margins(1.21, 1.0))


class TestAmongOthers:
    def test_who_comes_later_waits_and_may_try_again(self) -> None:
        error = refusal(replace(ASK, first_token_ms=150.0), other(first_token_by_ms=120.0))
        assert error.numbers["missed"] == "first_token_ms"
        assert error.retry_after_ms is not None
        assert error.retry_after_ms >= 1
        assert str(error.retry_after_ms) in error.message

    def test_a_promised_first_token_of_another_is_protected(self) -> None:
        ask = replace(ASK, first_token_ms=120.0)
        grant(ask, other())
        error = refusal(ask, other(first_token_by_ms=150.0))
        assert error.numbers["missed"] == "others_first_token_ms"
        assert "another request's promise" in error.message

    def test_a_promised_total_of_another_is_protected(self) -> None:
        error = refusal(replace(ASK, first_token_ms=110.0), other(promised=True, deadline_ms=640.0))
        assert error.numbers["missed"] == "others_total_ms"
        assert error.numbers["budget_ms"] == 640.0

    def test_patience_is_no_promise(self) -> None:
        assert grant(ASK, other(deadline_ms=610.0)).max_tokens == 51

    @pytest.mark.parametrize(
        ("mine", "theirs", "granted"),
        [
            (Priority.CRITICAL, Priority.INTERACTIVE, True),
            (Priority.INTERACTIVE, Priority.BACKGROUND, True),
            (Priority.CRITICAL, Priority.CRITICAL, False),
            (Priority.BACKGROUND, Priority.BACKGROUND, False),
        ],
    )
    def test_only_a_higher_class_may_break_a_promise(self, mine: Priority, theirs: Priority, granted: bool) -> None:
        ask = replace(ASK, priority=mine, first_token_ms=110.0)
        promised = other(priority=theirs, first_token_by_ms=150.0)
        if granted:
            assert grant(ask, promised).predicted_first_token_ms == 100.0
        else:
            refusal(ask, promised)

    def test_a_higher_class_is_not_in_a_lower_ones_way(self) -> None:
        first = grant(replace(ASK, priority=Priority.CRITICAL, first_token_ms=100.0), *(other(f"o{i}") for i in "abc"))
        assert first.predicted_first_token_ms == 100.0

    def test_a_promise_that_is_lost_anyway_blocks_nobody(self) -> None:
        assert grant(ASK, other(promised=True, deadline_ms=599.0)).max_tokens == 51
        assert grant(ASK, other(first_token_by_ms=99.0)).max_tokens == 51

    def test_a_promise_at_risk_may_not_be_put_at_more(self) -> None:
        # Alone it ends at 600 ms, behind the 590 midway between its aim and its deadline.
        at_risk = other(promised=True, deadline_ms=640.0, aim_ms=540.0)
        sooner = replace(ASK, first_token_ms=110.0)
        assert refusal(sooner, at_risk).numbers["missed"] == "others_total_ms"
        assert grant(ASK, at_risk).max_tokens == 51
        assert grant(replace(ASK, priority=Priority.BACKGROUND), at_risk).max_tokens == 51

    def test_the_margin_is_time_between_the_aim_and_the_deadline(self) -> None:
        asked = total(700.0)
        assert grant(asked, margins=Margins(1.0, 1.4)).aim_ms == pytest.approx(500.0)
        assert grant(asked, margins=Margins(1.0, 1.4)).max_tokens == 51
        assert grant(asked, margins=Margins(1.0, 1.45)).max_tokens < 51

    def test_others_are_not_moved_by_the_question(self) -> None:
        standing = other(first_token_by_ms=150.0)
        before = [getattr(standing, name) for name in Standing.__slots__]
        grant(ASK, standing)
        assert [getattr(standing, name) for name in Standing.__slots__] == before


@dataclass
class Promise:
    ask: Ask
    granted_ms: float
    journey: Journey


@dataclass
class Desk:
    """Admits to a virtual device what can be promised there."""

    device: VirtualDevice
    chance: random.Random
    promises: list[Promise] = field(default_factory=list)
    refused: int = 0

    def arrival(self, at_ms: float, classes: list[Priority]) -> tuple[float, Callable[[], None]]:
        return at_ms, lambda: self.arrive(at_ms, self.chance.choice(classes))

    def arrive(self, at_ms: float, priority: Priority) -> None:
        chance, scheduler = self.chance, self.device.scheduler
        prompt = [chance.randrange(10_000) for _ in range(chance.randrange(2, 600))]
        tokens = chance.randrange(1, 200)
        total_ms = chance.choice([None, (len(prompt) + 6 * tokens) * chance.uniform(1, 6)])
        ask = Ask(
            len(prompt),
            0,
            tokens,
            chance.choice([None, tokens // 2 + 1]),
            chance.random() < 0.3,
            priority,
            at_ms,
            at_ms + (120_000.0 if total_ms is None else total_ms),
            total_ms,
            chance.choice([None, 20 + len(prompt) * chance.uniform(1, 8)]),
            chance.choice([None, chance.uniform(8, 60)]),
        )
        standings = [Standing.of(request) for request in [*scheduler.waiting, *scheduler.running]]
        # As exact as forecasts are at exact costs: see tests/property/test_forecast.py.
        desk = Admission(scheduler.limits, scheduler.costs, Margins(1.1, 1.1), standings, self.device.now)
        try:
            granted = desk.grant(ask, tokens)
        except RequestError:
            self.refused += 1
            return
        request = Request(
            f"r{len(self.device.journeys)}",
            prompt,
            granted.max_tokens,
            ask.deadline_ms,
            None if ask.first_token_ms is None else at_ms + ask.first_token_ms,
            ask.per_token_ms,
            priority,
            total_ms is not None,
            at_ms,
            granted.aim_ms,
        )
        self.promises.append(Promise(ask, self.device.now, self.device.submit(request)))


@pytest.mark.slow
@pytest.mark.parametrize("classes", [[Priority.INTERACTIVE], list(Priority)], ids=["one class", "all classes"])
@pytest.mark.parametrize("load", [1.0, 4.0])
def test_at_known_costs_what_was_granted_is_kept_but_for_higher_classes(classes: list[Priority], load: float) -> None:
    granted = refused = 0
    for seed in range(10):
        chance = random.Random(seed)
        limits = Limits(8, 2048, chance.choice([4, 8]) * 2048, 128, spare_slots=2, idle_tokens=2048, ageing_ms=1e9)
        desk = Desk(VirtualDevice(Scheduler(limits, LinearCosts(margin=1.2))), chance)
        at_ms = 0.0
        arrivals = []
        for _ in range(50):
            at_ms += chance.expovariate(load / 900)
            arrivals.append(desk.arrival(at_ms, classes))
        desk.device.run(arrivals)
        granted, refused = granted + len(desk.promises), refused + desk.refused
        for promise in desk.promises:
            ended_ms = promise.journey.ended_ms
            assert ended_ms is not None
            yielded = any(
                other.ask.priority < promise.ask.priority and promise.granted_ms <= other.granted_ms <= ended_ms
                for other in desk.promises
            )
            assert yielded or promise.journey.late_ms <= limits.step_ms, (seed, promise.journey.late_ms, promise)
    assert granted > 100
    assert refused > 20
