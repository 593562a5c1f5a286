"""Under overload, the largest requests are refused first."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bise_daemon.admission import Ask
from bise_daemon.demand import Demand
from bise_daemon.errors import Reason, RequestError
from bise_daemon.scheduler.request import Priority
from virtual_device import LinearCosts

# 1 ms for each prompt token, nothing for answers.
COSTS = LinearCosts(base_ms=0.0, token_ms=1.0, row_ms=0.0, entry_ms=0.0)


def ask(prompt_tokens: int, **changes: object) -> Ask:
    plain = Ask(prompt_tokens, 0, 10, None, False, Priority.INTERACTIVE, 0.0, 1e6, 1000.0, None, None)
    return replace(plain, **changes)  # type: ignore[arg-type]


def overloaded() -> Demand:
    """One that has seen requests refused."""
    demand = Demand()
    for _ in range(2):
        demand.check(ask(1), 10, COSTS, 0.0, busy=True)
        demand.refused(ask(1))
    return demand


def enters(demand: Demand, size: int, now: float) -> bool:
    try:
        demand.check(ask(size), 10, COSTS, now, busy=True)
    except RequestError:
        return False
    return True


def offered(demand: Demand, every_ms: float, sizes: list[int], start_ms: float = 0.0) -> list[bool]:
    """Whether each got in, one every so often."""
    return [enters(demand, size, start_ms + number * every_ms) for number, size in enumerate(sizes)]


def test_while_all_of_it_can_be_done_size_does_not_matter() -> None:
    assert all(offered(overloaded(), 1000.0, [50, 50, 50, 1500] * 20))


def test_a_few_requests_say_nothing_yet() -> None:
    assert all(offered(overloaded(), 1.0, [500] * 13))


def test_beyond_that_the_largest_are_refused_and_the_rest_gets_in() -> None:
    entered = offered(overloaded(), 100.0, [20, 20, 20, 400] * 40)[40:]
    assert all(entered[number] for number in range(len(entered)) if number % 4 != 3)
    assert not any(entered[3::4])


def test_when_fewer_ask_again_large_ones_get_in() -> None:
    demand = overloaded()
    offered(demand, 100.0, [20, 20, 20, 400] * 40)
    assert offered(demand, 5000.0, [20, 20, 20, 400] * 40, start_ms=100_000.0)[-1]


def test_a_refusal_says_how_much_is_too_much() -> None:
    demand = overloaded()
    offered(demand, 100.0, [20, 20, 20, 400] * 40)
    with pytest.raises(RequestError, match="overload") as caught:
        demand.check(ask(400), 10, COSTS, 16_000.0, busy=True)
    assert caught.value.reason is Reason.BUDGET
    assert caught.value.numbers == {"missed": "overload", "budget_ms": 400.0, "needed_ms": 400.0}
    assert caught.value.retry_after_ms is not None


@pytest.mark.parametrize("changes", [{"priority": Priority.CRITICAL}, {"total_ms": None}])
def test_critical_ones_and_those_without_a_budget_are_not_asked_about(changes: dict[str, object]) -> None:
    demand = overloaded()
    assert not all(offered(demand, 1.0, [400] * 40))
    demand.check(ask(4000, **changes), 10, COSTS, 40.0, busy=True)


def test_an_answer_that_may_be_short_counts_as_its_shortest() -> None:
    costs = LinearCosts(base_ms=0.0, token_ms=0.0, row_ms=1.0, entry_ms=0.0)
    demand = overloaded()
    for number in range(20):
        demand.check(ask(10, max_tokens=None), 8000, costs, number * 10.0, busy=True)
    with pytest.raises(RequestError, match="overload"):
        demand.check(ask(10, max_tokens=8000, whole=True), 8000, costs, 200.0, busy=True)


def test_who_waits_for_each_answer_before_asking_again_asks_not_too_much() -> None:
    assert all(offered(Demand(), 400.0, [400] * 100))


def test_an_idle_device_refuses_nobody() -> None:
    demand = overloaded()
    offered(demand, 100.0, [20, 20, 20, 400] * 40)
    demand.check(ask(400), 10, COSTS, 16_000.0, busy=False)


def test_refusals_of_those_not_asked_about_are_no_sign_of_overload() -> None:
    demand = Demand()
    offered(demand, 1.0, [1] * 30)
    for _ in range(5):
        demand.refused(ask(10, priority=Priority.CRITICAL))
        demand.refused(ask(10, total_ms=None))
    assert enters(demand, 4000, 30.0)
