"""The scheduler by its table: what each situation leads to."""

from __future__ import annotations

import pytest

from bise_daemon.scheduler.request import Ending, Phase, Request
from bise_daemon.scheduler.scheduler import Limits, Scheduler
from bise_daemon.scheduler.step import Decode, Move, Outcome, Prefill, Row

LIMITS = Limits(slots=3, context_tokens=32, kv_budget_tokens=64, prefill_chunk_tokens=4)


def request(name: str, prompt: int = 3, max_tokens: int = 4, deadline_ms: float | None = None) -> Request:
    return Request(name, range(100, 100 + prompt), max_tokens, deadline_ms)


def run(scheduler: Scheduler, now: float = 0.0, stopped: frozenset[str] = frozenset()) -> dict[str, Ending]:
    """One step; every request that samples gets token 7, and ends by content if it is in `stopped`."""
    plan = scheduler.plan(now)
    match plan.work:
        case Prefill(request_id=request_id, samples=True):
            sampled = [request_id]
        case Decode(rows=rows):
            sampled = [row.request_id for row in rows if row.request_id is not None]
        case _:
            sampled = []
    endings = scheduler.commit(plan, {name: Outcome(7, name in stopped) for name in sampled})
    scheduler.check_integrity()
    return endings


def decoding(scheduler: Scheduler, *names: str, max_tokens: int = 20) -> None:
    """Brings requests to the decode phase, in slots of their order, and past one decode step."""
    for name in names:
        scheduler.submit(request(name, prompt=1, max_tokens=max_tokens))
    while not all(each and each.phase is Phase.DECODE for each in scheduler._slots[: len(names)]):
        run(scheduler)
    run(scheduler)


def test_nothing_to_do() -> None:
    scheduler = Scheduler(LIMITS)
    assert not scheduler.has_work
    plan = scheduler.plan(0)
    assert plan.work is None
    assert scheduler.commit(plan, {}) == {}


def test_a_prompt_runs_in_chunks_and_only_the_last_samples() -> None:
    scheduler = Scheduler(LIMITS)
    scheduler.submit(request("a", prompt=10))
    seen = []
    for _ in range(3):
        plan = scheduler.plan(0)
        assert isinstance(plan.work, Prefill)
        seen.append((plan.work.start, list(plan.work.tokens), plan.work.samples))
        scheduler.commit(plan, {"a": Outcome(7, False)} if plan.work.samples else {})
    assert seen == [
        (0, [100, 101, 102, 103], False),
        (4, [104, 105, 106, 107], False),
        (8, [108, 109], True),
    ]
    work = scheduler.plan(0).work
    assert work == Decode(0, [Row("a", 7, 10)])


@pytest.mark.parametrize(("prompt", "sizes"), [(4, [4]), (5, [3, 2]), (9, [4, 3, 2]), (1, [1]), (2, [2])])
def test_no_chunk_of_one_token_is_left_over(prompt: int, sizes: list[int]) -> None:
    scheduler = Scheduler(LIMITS)
    scheduler.submit(request("a", prompt=prompt))
    seen = []
    while sum(seen) < prompt:
        plan = scheduler.plan(0)
        assert isinstance(plan.work, Prefill)
        seen.append(len(plan.work.tokens))
        scheduler.commit(plan, {"a": Outcome(7, False)} if plan.work.samples else {})
    assert seen == sizes


def test_an_answer_ends_at_its_length() -> None:
    scheduler = Scheduler(LIMITS)
    scheduler.submit(request("a", max_tokens=3))
    assert [run(scheduler) for _ in range(3)] == [{}, {}, {"a": Ending.LENGTH}]
    assert scheduler.slots_used == 0


def test_one_token_answers_end_with_their_prompt() -> None:
    scheduler = Scheduler(LIMITS)
    scheduler.submit(request("a", max_tokens=1))
    assert run(scheduler) == {"a": Ending.LENGTH}


def test_an_answer_ends_by_its_content() -> None:
    scheduler = Scheduler(LIMITS)
    scheduler.submit(request("a"))
    run(scheduler)
    assert run(scheduler, stopped=frozenset("a")) == {"a": Ending.STOPPED}


def test_prefill_and_decode_take_turns() -> None:
    scheduler = Scheduler(LIMITS)
    decoding(scheduler, "a")
    scheduler.submit(request("b", prompt=12))
    kinds = []
    for _ in range(6):
        plan = scheduler.plan(0)
        kinds.append(type(plan.work).__name__)
        sampled = ["a"] if isinstance(plan.work, Decode) else ["b"] if plan.work and plan.work.samples else []
        scheduler.commit(plan, {name: Outcome(7, False) for name in sampled})
    assert kinds == ["Prefill", "Decode", "Prefill", "Decode", "Prefill", "Decode"]


def test_prompts_run_in_the_order_of_arrival() -> None:
    scheduler = Scheduler(LIMITS)
    decoding(scheduler, "old")
    scheduler.submit(request("first", prompt=8))
    scheduler.submit(request("second", prompt=1))
    plan = scheduler.plan(0)
    assert isinstance(plan.work, Prefill)
    assert plan.work.request_id == "first"


def test_requests_beyond_the_slots_wait_in_order() -> None:
    scheduler = Scheduler(LIMITS)
    for name in "abcde":
        scheduler.submit(request(name))
    scheduler.plan(0)
    assert (scheduler.slots_used, scheduler.waiting) == (3, 2)
    scheduler.abort("b")
    scheduler.plan(0)
    assert [each.id for each in scheduler._waiting] == ["e"]


def test_a_request_waits_until_its_whole_cache_fits() -> None:
    scheduler = Scheduler(LIMITS)
    scheduler.submit(request("a", prompt=10, max_tokens=20))
    scheduler.submit(request("b", prompt=10, max_tokens=20))
    scheduler.submit(request("c", prompt=10, max_tokens=20))
    scheduler.plan(0)
    assert (scheduler.slots_used, scheduler.waiting) == (2, 1)


def test_rows_of_one_step_are_neighbours_and_fillers_write_beyond_what_slots_hold() -> None:
    scheduler = Scheduler(LIMITS)
    decoding(scheduler, "a", "b", "c")
    scheduler.abort("b")
    scheduler.submit(request("long", prompt=12))
    prefill = scheduler.plan(0)
    assert isinstance(prefill.work, Prefill)
    assert prefill.work.slot == 1
    scheduler.commit(prefill, {})
    work = scheduler.plan(0).work
    assert isinstance(work, Decode)
    assert [(row.request_id, row.position) for row in work.rows][1] == (None, 4)


def test_a_hole_is_filled_by_the_last_row() -> None:
    scheduler = Scheduler(LIMITS)
    decoding(scheduler, "a", "b", "c")
    held = scheduler._slots[2]
    assert held is not None
    scheduler.abort("b")
    plan = scheduler.plan(0)
    assert plan.moves == [Move(2, 1, held.computed_tokens)]
    assert plan.released == [1]
    assert isinstance(plan.work, Decode)
    assert [row.request_id for row in plan.work.rows] == ["a", "c"]


def test_a_deadline_ends_a_request_in_any_phase() -> None:
    scheduler = Scheduler(Limits(1, 32, 64, 4))
    scheduler.submit(request("decoding", max_tokens=20, deadline_ms=100))
    run(scheduler)
    scheduler.submit(request("waiting", deadline_ms=50))
    assert scheduler.plan(49).expired == []
    assert scheduler.plan(50).expired == ["waiting"]
    plan = scheduler.plan(100)
    assert (plan.expired, plan.released, plan.work) == (["decoding"], [0], None)
    scheduler.check_integrity()


def test_abort_knows_who_is_here() -> None:
    scheduler = Scheduler(LIMITS)
    scheduler.submit(request("a"))
    assert scheduler.abort("a")
    assert not scheduler.abort("a")
    assert not scheduler.abort("never")


@pytest.mark.parametrize(
    ("prompt_tokens", "max_tokens", "fits"),
    [(1, 1, True), (32, 1, True), (33, 1, False), (31, 2, True), (31, 3, False), (0, 1, False), (1, 0, False)],
)
def test_what_fits_a_slot(prompt_tokens: int, max_tokens: int, fits: bool) -> None:
    assert Scheduler(LIMITS).fits(prompt_tokens, max_tokens) is fits
