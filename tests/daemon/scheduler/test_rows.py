"""Who runs where: what is found again, where it is put, what is moved, and what is let go first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from bise_daemon.scheduler.limits import Limits
from bise_daemon.scheduler.placement import place
from bise_daemon.scheduler.request import Phase, Request
from bise_daemon.scheduler.rows import Rows
from bise_daemon.scheduler.slots import Match, Slot, common_prefix, longest_match
from bise_daemon.scheduler.step import Copy, Decode, Mixed, Prefill, Release, Row
from virtual_device import LinearCosts

LIMITS = Limits(slots=4, context_tokens=256, kv_budget_tokens=1024, prefill_chunk_tokens=64, spare_slots=2)
COSTS = LinearCosts()
FREE_COPIES = LinearCosts(copied_ms=0.0)
DEAR_COPIES = LinearCosts(copied_ms=100.0)


def seat(rows: Rows, name: str, prompt: Sequence[int], computed: int | None = None) -> Request:
    """A request in a slot, with so many tokens computed; by default its prompt, and a first token sampled."""
    request = Request(name, prompt, 50)
    rows.seat(request, COSTS)
    if computed is None:
        request.computed_tokens, request.phase = len(prompt), Phase.DECODE
        request.output.append(7)
    else:
        request.computed_tokens = computed
    rows.check_integrity()
    return request


def ended(rows: Rows, name: str, prompt: Sequence[int]) -> int:
    """Leaves the tokens of a prompt in a slot; returns which."""
    request = seat(rows, name, prompt)
    slot = request.slot
    rows.vacate(request, ends=True)
    assert slot is not None
    return slot


def test_the_longest_prefix_wins() -> None:
    held = [(0, [1, 2, 3], 3), (1, [1, 2, 3, 4, 5], 5), (2, [1, 2, 3, 4, 5, 6], 4), (3, [9], 1)]
    assert longest_match([1, 2, 3, 4, 5, 6], iter(held), most=6) == Match(1, 5)
    assert longest_match([1, 2, 3, 4, 5, 6], iter(held), most=4) == Match(1, 4)
    assert longest_match([5], iter(held), most=1) == Match(None, 0)
    assert longest_match([1, 2], iter(held), most=0) == Match(None, 0)


@pytest.mark.parametrize("common", [0, 1, 2, 7, 50, 99, 100])
def test_common_prefixes_are_counted(common: int) -> None:
    left, right = list(range(100)), [*range(common), *[-1] * (100 - common)]
    assert common_prefix(left, right, 100) == common
    assert common_prefix(left, right, 10) == min(common, 10)


def test_a_prefix_that_is_idle_is_used_where_it_lies() -> None:
    rows = Rows(LIMITS)
    slot = ended(rows, "a", range(40))
    request = seat(rows, "b", [*range(40), 99, 98, 97], computed=40)
    assert (request.slot, request.reused_tokens) == (slot, 40)
    assert rows.take_changes() == ([], [])


def test_what_others_may_still_want_behind_a_prefix_is_not_lost() -> None:
    rows = Rows(LIMITS)
    slot = ended(rows, "a", range(40))
    request = seat(rows, "b", [*range(30), 99, 98, 97], computed=30)
    assert rows.take_changes() == ([Copy(slot, 1, 30)], [Release(slot, 40)])
    assert (request.slot, rows.idle_tokens) == (1, 40)


def test_a_prefix_of_one_that_runs_is_copied() -> None:
    rows = Rows(LIMITS)
    first = seat(rows, "a", range(40), computed=20)
    second = seat(rows, "b", range(40), computed=20)
    assert first.slot != second.slot
    assert rows.take_changes() == ([Copy(0, 1, 20)], [])
    assert second.reused_tokens == 20


def test_something_is_left_to_compute_of_the_same_prompt() -> None:
    rows = Rows(LIMITS)
    ended(rows, "a", range(40))
    request = Request("b", range(40), 5)
    rows.seat(request, COSTS)
    assert (request.computed_tokens, request.phase) == (38, Phase.PREFILL)


def test_who_comes_back_with_all_its_tokens_decodes_at_once() -> None:
    rows = Rows(LIMITS)
    request = seat(rows, "a", range(40))
    request.computed_tokens, request.output = 42, [7, 8, 9]
    rows.vacate(request, ends=False)
    rows.seat(request, COSTS)
    assert (request.computed_tokens, request.phase) == (42, Phase.DECODE)
    assert request.reused_tokens == 0


TWO_WAYS = replace(LIMITS, one_way=False)


def test_where_an_answer_is_computed_in_another_way_it_is_no_prefix() -> None:
    rows = Rows(TWO_WAYS)
    request = seat(rows, "a", range(40))
    request.computed_tokens, request.output = 42, [7, 8, 9]
    rows.vacate(request, ends=True)
    assert (rows.idle_tokens, rows.prefixes()) == (40, [([*range(40)], 40)])
    following = seat(rows, "b", [*range(40), 7, 8, 9, 1, 2], computed=40)
    assert following.reused_tokens == 40


@pytest.mark.parametrize(
    ("computed", "left_of_prompt", "phase"), [(42, 0, Phase.DECODE), (40, 0, Phase.DECODE), (39, 2, Phase.PREFILL)]
)
def test_who_was_interrupted_goes_on_in_the_same_ways(computed: int, left_of_prompt: int, phase: Phase) -> None:
    rows = Rows(TWO_WAYS)
    request = seat(rows, "a", range(40))
    request.computed_tokens, request.output = computed, [7, 8, 9]
    rows.vacate(request, ends=False)
    rows.seat(request, COSTS)
    assert (request.computed_tokens, request.left_of_prompt) == (computed - (left_of_prompt == 2), left_of_prompt)
    assert request.phase is phase


def test_a_filler_in_a_chunks_slot_writes_behind_the_chunk() -> None:
    rows = Rows(TWO_WAYS)
    step = Decode(0, [Row("a", 7, 5, samples=True), Row(None, 0, 3, samples=False), Row("c", 8, 6, samples=True)])
    chunk = Prefill("b", 1, 3, [1, 2, 3, 4], samples=False)
    mixed = rows.mixed(chunk, step)
    assert isinstance(mixed, Mixed)
    assert [row.position for row in mixed.rows.rows] == [5, 7, 6]
    elsewhere = replace(chunk, slot=3)
    assert rows.mixed(elsewhere, step) == Mixed(elsewhere, step)


def test_where_a_chunk_fills_its_slot_it_comes_without_rows_around_it() -> None:
    last = LIMITS.context_tokens - 4
    chunk = Prefill("b", 1, last, [1, 2, 3, 4], samples=True)
    step = Decode(0, [Row("a", 7, 5, samples=True), Row(None, 0, last, samples=False), Row("c", 8, 6, samples=True)])
    assert Rows(TWO_WAYS).mixed(chunk, step) == chunk
    beside = Decode(2, step.rows[2:])
    assert Rows(TWO_WAYS).mixed(chunk, beside) == Mixed(chunk, beside)


def test_a_prompt_of_one_token_begins_at_the_first_place() -> None:
    rows = Rows(TWO_WAYS)
    request = Request("a", [5], 50)
    rows.seat(request, COSTS)
    assert (request.slot, request.computed_tokens, request.left_of_prompt) == (0, 0, 1)


def test_anothers_prompt_is_no_answer() -> None:
    rows = Rows(TWO_WAYS)
    ended(rows, "other", [*range(40), 7, 8, 9, 1])
    request = Request("a", range(40), 50)
    request.output.extend([7, 8, 9])
    rows.seat(request, COSTS)
    assert (request.computed_tokens, request.phase) == (40, Phase.DECODE)


def test_the_last_place_of_a_slot_is_not_kept_since_fillers_write_there() -> None:
    rows = Rows(Limits(1, 40, 40, 64))
    request = Request("a", range(40), 1)
    rows.seat(request, COSTS)
    request.computed_tokens = 40
    rows.vacate(request, ends=True)
    assert rows.idle_tokens == 39


def test_a_slot_found_again_is_not_wiped() -> None:
    rows = Rows(LIMITS)
    slot = ended(rows, "a", range(40))
    assert rows.take_changes() == ([], [Release(slot, 40)])
    ended(rows, "b", range(50))
    seat(rows, "c", range(52))
    assert rows.take_changes() == ([], [])


class TestPlacement:
    def slots(self, taken: str, kept: Sequence[int] = (), used: Sequence[int] = ()) -> list[Slot]:
        """Slots of a pattern: `x` is taken, `p` pinned, `.` free; with so many tokens kept, and last used then."""
        slots = [Slot(index, pinned=mark == "p") for index, mark in enumerate(taken)]
        for slot, mark in zip(slots, taken, strict=True):
            slot.owner = Request(str(slot.index), [1], 1) if mark == "x" else None
        for slot, tokens in zip(slots, kept, strict=False):
            slot.kept = range(tokens)
        for slot, use in zip(slots, used, strict=False):
            slot.used = use
        return slots

    @pytest.mark.parametrize(
        ("taken", "slot"),
        [("....", 0), ("xx..", 2), ("x.x.", 1), ("..xx", 1), ("pxx.", 3), ("p...", 1), ("..x...", 1), ("xx.p", 2)],
    )
    def test_rows_stay_neighbours(self, taken: str, slot: int) -> None:
        assert place(self.slots(taken), Match(None, 0), COSTS).index == slot

    def test_what_is_empty_is_taken_before_what_holds_something(self) -> None:
        assert place(self.slots("...", kept=[50, 0, 50]), Match(None, 0), COSTS).index == 1

    def test_what_was_not_used_for_long_is_lost_first(self) -> None:
        assert place(self.slots("...", kept=[50, 50, 50], used=[3, 1, 2]), Match(None, 0), COSTS).index == 1

    def test_what_is_short_is_lost_first(self) -> None:
        assert place(self.slots("...", kept=[50, 50, 5], used=[1, 1, 1]), Match(None, 0), COSTS).index == 2

    @pytest.mark.parametrize(("costs", "slot"), [(FREE_COPIES, 1), (DEAR_COPIES, 0)])
    def test_a_long_prompt_is_copied_rather_than_lost_for_a_short_prefix(self, costs: LinearCosts, slot: int) -> None:
        slots = self.slots("..", kept=[500, 0], used=[2, 1])
        assert place(slots, Match(0, 10), costs).index == slot

    def test_fillers_are_dearer_than_a_short_prefix_lost(self) -> None:
        # Two fillers for 32 steps of 1 ms each, against 10 tokens.
        slots = self.slots("x...", kept=[0, 10, 10, 0])
        assert place(slots, Match(None, 0), COSTS).index == 1


class TestTrim:
    def test_the_longest_unused_goes_first_and_pinned_ones_last(self) -> None:
        rows = Rows(LIMITS)
        rows.pin(5, range(900, 910))
        slots = [ended(rows, name, range(begin, begin + 20)) for name, begin in (("a", 0), ("b", 100), ("c", 200))]
        assert rows.idle_tokens == 70
        held: list[set[int]] = []
        for room in (70, 69, 50, 49, 10, 9):
            rows.trim(room)
            held.append({tokens[0] for tokens, _ in rows.prefixes()})
        assert held == [{0, 100, 200, 900}, {100, 200, 900}, {100, 200, 900}, {200, 900}, {900}, set()]
        assert len(set(slots)) == 3

    def test_what_is_let_go_is_released(self) -> None:
        rows = Rows(LIMITS)
        slot = ended(rows, "a", range(20))
        rows.take_changes()
        rows.trim(0)
        assert rows.take_changes() == ([], [Release(slot, 0)])
        assert not rows.changed

    def test_pinned_tokens_are_copied_and_their_slot_given_to_nobody(self) -> None:
        rows = Rows(LIMITS)
        rows.pin(5, range(20))
        for index in range(4):
            request = seat(rows, f"r{index}", [*range(20), 100 + index, 1])
            assert request.slot != 5
            assert request.reused_tokens == 20
        assert rows.take_changes()[0][0] == Copy(5, 0, 20)


class TestHoles:
    def decoding(self, prompts: Sequence[int], *, without: Sequence[int]) -> tuple[Rows, list[Request]]:
        """Neighbours with prompts of these lengths, of which some have left."""
        rows = Rows(LIMITS)
        requests = [
            seat(rows, f"r{index}", range(1000 * index, 1000 * index + length)) for index, length in enumerate(prompts)
        ]
        assert [request.slot for request in requests] == list(range(len(prompts)))
        for index in without:
            rows.vacate(requests[index], ends=True)
        rows.take_changes()
        return rows, [request for request in requests if request.slot is not None]

    def test_fillers_write_behind_what_a_slot_holds(self) -> None:
        rows, staying = self.decoding([10, 20, 30], without=[1])
        work = rows.decode(staying, DEAR_COPIES)
        first, filler, last = Row("r0", 7, 10, True), Row(None, 0, 20, False), Row("r2", 7, 30, True)
        assert work == Decode(0, [first, filler, last])
        assert rows.take_changes() == ([], [])

    def test_where_it_pays_the_last_row_moves_into_the_hole(self) -> None:
        rows, staying = self.decoding([10, 20, 30], without=[1])
        work = rows.decode(staying, FREE_COPIES)
        assert [row.request_id for row in work.rows] in (["r0", "r2"], ["r2", "r0"])
        copies, releases = rows.take_changes()
        assert len(copies) == len(releases) == 1
        assert copies[0].target == 1
        assert releases == [Release(copies[0].source, 0)]
        rows.check_integrity()

    def test_the_move_that_frees_most_rows_is_made(self) -> None:
        rows, staying = self.decoding([10, 10, 10, 10], without=[1, 2])
        work = rows.decode(staying, FREE_COPIES)
        assert len(work.rows) == 2

    @pytest.mark.parametrize(("tokens", "moves"), [(31, True), (33, False)])
    def test_a_copy_must_pay_within_32_steps(self, tokens: int, moves: bool) -> None:
        costs = LinearCosts(row_ms=1.0, copied_ms=1.0, entry_ms=0.0)
        rows, staying = self.decoding([tokens, 20, tokens], without=[1])
        work = rows.decode(staying, costs)
        assert len(work.rows) == (2 if moves else 3)

    def test_a_copy_must_pay_before_the_answers_end(self) -> None:
        costs = LinearCosts(row_ms=1.0, copied_ms=1.0, entry_ms=0.0)
        rows, staying = self.decoding([20, 20, 20], without=[1])
        staying[0].output = [7] * 40
        staying[0].computed_tokens += 39
        assert len(rows.decode(staying, costs).rows) == 3

    def test_a_prompt_not_begun_changes_places_with_a_row(self) -> None:
        rows = Rows(LIMITS)
        first, unbegun, second = (
            seat(rows, "a", range(10)),
            seat(rows, "b", range(100, 110), computed=0),
            seat(rows, "c", range(200, 210)),
        )
        assert len(rows.decode([first, second], FREE_COPIES).rows) == 2
        assert {first.slot, second.slot, unbegun.slot} == {0, 1, 2}
        assert unbegun.slot != 1
        copies, releases = rows.take_changes()
        assert ([copy.target for copy in copies], releases) == ([1], [])
        rows.check_integrity()

    def test_a_prompt_that_has_begun_stays(self) -> None:
        rows = Rows(LIMITS)
        first, begun, second = (
            seat(rows, "a", range(10)),
            seat(rows, "b", range(100, 110), computed=2),
            seat(rows, "c", range(200, 210)),
        )
        assert rows.decode([first, second], FREE_COPIES).rows[1] == Row(None, 0, 2, samples=False)
        assert begun.slot == 1

    def test_pinned_slots_are_no_holes(self) -> None:
        rows = Rows(LIMITS)
        first = seat(rows, "a", range(10))
        rows.pin(1, range(100, 110))
        second = seat(rows, "b", range(200, 210))
        assert second.slot == 2
        assert len(rows.decode([first, second], FREE_COPIES).rows) == 3
