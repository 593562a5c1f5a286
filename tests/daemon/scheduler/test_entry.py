"""Who gets a slot, who gives way, and what becomes of those."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from bise_daemon.scheduler.entry import Entrance, waiting_order
from bise_daemon.scheduler.limits import Limits
from bise_daemon.scheduler.request import Ending, Phase, Priority, Request
from bise_daemon.scheduler.scheduler import Scheduler
from bise_daemon.scheduler.step import Decode, Prefill
from virtual_device import LinearCosts, VirtualDevice

C, N, B = Priority.CRITICAL, Priority.INTERACTIVE, Priority.BACKGROUND
LIMITS = Limits(3, 1024, 1000, 64, spare_slots=1, idle_tokens=1000, ageing_ms=1000.0)
COSTS = LinearCosts(base_ms=1.0, row_ms=10.0, entry_ms=0.0)


def request(
    name: str,
    priority: Priority = N,
    tokens: int = 100,
    *,
    due_ms: float | None = None,
    per_token_ms: float | None = None,
    arrived_ms: float = 0.0,
) -> Request:
    """One that reserves `tokens`, sixty of them for its answer."""
    begin = 1000 * ord(name[0])
    it = Request(name, range(begin, begin + tokens - 59), 60, due_ms, None, per_token_ms, priority, False, arrived_ms)
    it.served_ms = arrived_ms
    return it


def entry(running: Sequence[Request], waiting: Sequence[Request], now: float = 0.0) -> tuple[str, str] | None:
    """Who enters, and who gives way for that."""
    found = Entrance(running, LIMITS, COSTS, now).first(waiting)
    return None if found is None else (found.entrant.id, "".join(each.id for each in found.yielding))


def order(waiting: Sequence[Request], now: float = 0.0) -> str:
    return "".join(each.id for each in sorted(waiting, key=lambda each: waiting_order(each, now, LIMITS.ageing_ms)))


def test_those_that_wait_come_by_class_then_by_what_is_due() -> None:
    waiting = [request("a", B, due_ms=1.0), request("b", N), request("c", N, due_ms=50.0), request("d", C)]
    assert order(waiting) == "dcba"


@pytest.mark.parametrize(("now", "expected"), [(999.0, "cib"), (1000.0, "cbi"), (1999.0, "cbi"), (2000.0, "bci")])
def test_an_age_is_a_class(now: float, expected: str) -> None:
    fresh = now - 500.0
    waiting = [
        request("b", B, due_ms=10.0),
        request("i", N, due_ms=20.0, arrived_ms=fresh),
        request("c", C, due_ms=30.0, arrived_ms=fresh),
    ]
    assert order(waiting, now) == expected


@pytest.mark.parametrize(
    ("running", "waiting", "expected"),
    [
        ([], [request("a")], ("a", "")),
        ([], [request("a", tokens=1024)], ("a", "")),  # alone, whatever memory has become
        ([request("a")] * 2, [request("b")], ("b", "")),
        ([request("a")] * 3, [request("b")], None),
        ([request("a", tokens=500)], [request("b", tokens=500)], ("b", "")),
        ([request("a", tokens=500)], [request("b", tokens=501)], None),
        ([request("a", tokens=500)], [request("b", tokens=501), request("c")], None),  # nobody of its class overtakes
        ([request("a", B, 500)], [request("b", N, 501)], ("b", "a")),
        ([request("a", N), request("b", B), request("c", C)], [request("d", C)], ("d", "b")),
        ([request("a", N), request("b", N), request("c", C)], [request("d", C)], ("d", "b")),
        ([request("a", B, due_ms=9.0), request("b", B), request("c", B, due_ms=5.0)], [request("d", N)], ("d", "b")),
        ([request("a", B, 400), request("b", N, 400)], [request("c", C, 900)], ("c", "ab")),
        ([request("a", B, 400), request("b", C, 400)], [request("c", N, 700)], None),
    ],
)
def test_room_is_free_or_made_by_lower_classes(
    running: list[Request], waiting: list[Request], expected: tuple[str, str] | None
) -> None:
    for turn, each in enumerate(running):
        each.turn = turn
    assert entry(running, waiting) == expected


@pytest.mark.parametrize(
    ("pace_ms", "newcomer_pace_ms", "enters"),
    # A decode step takes 11 ms for one row, 21 for two.
    [(21.0, None, True), (20.9, None, False), (None, 20.9, False), (None, 21.0, True), (10.9, None, True)],
)
def test_a_newcomer_breaks_no_pace_but_a_lost_one(
    pace_ms: float | None, newcomer_pace_ms: float | None, enters: bool
) -> None:
    running, waiting = [request("a", per_token_ms=pace_ms)], [request("b", per_token_ms=newcomer_pace_ms)]
    assert (entry(running, waiting) is not None) is enters


def test_a_pace_must_hold_when_contexts_have_grown() -> None:
    costs = replace(COSTS, entry_ms=0.01)  # two rows of 500 tokens: 31 ms
    running, waiting = [request("a", tokens=500, per_token_ms=30.0)], [request("b", tokens=500)]
    assert Entrance(running, LIMITS, costs, 0.0).first(waiting) is None


def test_free_room_is_kept_for_who_waits_longest() -> None:
    old, fresh = request("b", B, 600), request("c", C, arrived_ms=5000.0)
    running = [request("a", N, 500, arrived_ms=5000.0)]
    assert entry([running[0]], [old], now=5000.0) is None
    # The fresh one is of a higher class: it takes a lower one's place, but not the room that is free.
    assert entry(running, [old, fresh], now=5000.0) == ("c", "a")
    running[0].priority = C
    assert entry(running, [old, fresh], now=5000.0) is None


def test_who_got_its_slot_by_age_keeps_it_until_it_was_served() -> None:
    aged = request("b", B)
    running = [request("x", C, arrived_ms=5000.0), request("y", C, arrived_ms=5000.0), aged]
    fresh = request("c", C, arrived_ms=5000.0)
    assert entry(running, [fresh], now=5000.0) is None
    aged.served_ms = 5000.0
    assert entry(running, [fresh], now=5000.0) == ("c", "b")


class TestPreemption:
    LIMITS = replace(LIMITS, ageing_ms=1e9)

    def device(self, limits: Limits = LIMITS) -> VirtualDevice:
        return VirtualDevice(Scheduler(limits, COSTS))

    def decoding(self, device: VirtualDevice, *requests: Request) -> None:
        for each in requests:
            device.submit(each)
        while not all(each.begun for each in requests):
            device.step()

    def test_what_was_computed_is_kept_and_decoding_goes_on(self) -> None:
        device = self.device(replace(self.LIMITS, slots=1, spare_slots=1))
        lower, higher = request("lower", B), request("higher", C)
        self.decoding(device, lower)
        device.step()
        done = lower.computed_tokens
        device.submit(higher)
        device.step()
        assert (lower.phase, lower.slot) == (Phase.WAITING, None)
        assert higher.slot is not None
        while higher.phase is not Phase.ENDED:
            device.step()
        work = device.step()
        assert isinstance(work, Decode)
        assert (lower.phase, lower.computed_tokens) == (Phase.DECODE, done + 1)
        assert device.scheduler.preemptions == 1
        device.run()
        assert lower.output == device.script.answer(lower.prompt, 60)

    def test_what_memory_has_no_room_for_is_computed_again(self) -> None:
        device = self.device()
        lower, higher = request("lower", B, 500), request("higher", C, 900)
        self.decoding(device, lower)
        device.submit(higher)
        device.step()
        # 900 of 1000 are reserved, so the other's can't stay.
        assert (lower.phase, device.scheduler.idle_tokens) == (Phase.WAITING, 0)
        while higher.phase is not Phase.ENDED:
            device.step()
        work = device.step()
        assert isinstance(work, Prefill)
        assert work.request_id == "lower"
        device.run()
        assert lower.output == device.script.answer(lower.prompt, 60)

    def test_shrunk_memory_interrupts_background_work_and_nothing_else(self) -> None:
        device = self.device()
        background = [request("b1", B, 200, due_ms=9e9), request("b2", B, 200)]
        interactive = request("i", N, 400)
        self.decoding(device, *background)
        self.decoding(device, interactive)
        for budget_tokens, running in ((700, {"b1", "i"}), (500, {"i"}), (100, {"i"}), (1000, {"b1", "b2", "i"})):
            device.scheduler.limits = replace(self.LIMITS, kv_budget_tokens=budget_tokens)
            device.step()
            assert {each.id for each in device.scheduler.running} == running
        device.run()
        assert {journey.ending for journey in device.journeys.values()} == {Ending.LENGTH}

    def test_shrunk_memory_leaves_the_last_that_runs(self) -> None:
        device = self.device()
        only = [request("b1", B, due_ms=9e9), request("b2", B)]
        self.decoding(device, *only)
        device.scheduler.limits = replace(self.LIMITS, kv_budget_tokens=0)
        device.run()
        assert {journey.ending for journey in device.journeys.values()} == {Ending.LENGTH}
        assert device.scheduler.preemptions == 1
