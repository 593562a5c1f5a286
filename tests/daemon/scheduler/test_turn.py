"""What runs next: prompts beside streams, promises, classes and guesses, with numbers."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from bise_daemon.scheduler.limits import Limits
from bise_daemon.scheduler.request import Ending, Phase, Priority, Request
from bise_daemon.scheduler.scheduler import Scheduler
from bise_daemon.scheduler.step import Decode, Mixed, Prefill, Verify, Work
from virtual_device import LinearCosts, Script, VirtualDevice

LIMITS = Limits(4, 2048, 8192, 128)
# A decode step of one row takes 11 ms, a chunk of n tokens 1 + 0.75 n.
COSTS = LinearCosts(base_ms=1.0, row_ms=10.0, entry_ms=0.0)


def device(costs: LinearCosts = COSTS, limits: Limits = LIMITS) -> VirtualDevice:
    return VirtualDevice(Scheduler(limits, costs))


def stream(
    device: VirtualDevice,
    name: str = "stream",
    max_tokens: int = 200,
    *,
    total_ms: float | None = None,
    per_token_ms: float | None = None,
    priority: Priority = Priority.INTERACTIVE,
) -> Request:
    """A request that decodes, with its last token just out; its prompt has two tokens."""
    now = device.now
    deadline_ms = None if total_ms is None else now + total_ms
    request = Request(name, [1, 2], max_tokens, deadline_ms, None, per_token_ms, priority, deadline_ms is not None, now)
    device.submit(request)
    while not request.begun:
        device.step()
    return request


def prompt(
    device: VirtualDevice,
    name: str = "prompt",
    tokens: int = 500,
    *,
    due_ms: float | None = None,
    priority: Priority = Priority.INTERACTIVE,
) -> Request:
    request = Request(name, range(tokens), 1, first_token_by_ms=due_ms, priority=priority, arrived_ms=device.now)
    device.submit(request)
    return request


def kinds(device: VirtualDevice, count: int) -> str:
    """What the next steps are: P, D or V each."""
    return "".join(type(device.step()).__name__[0] for _ in range(count))


def whose(work: Work | None) -> set[str | None]:
    assert work is not None
    return {row.request_id for row in work.rows} if isinstance(work, Decode) else {work.request_id}


def test_alone_a_prompt_is_cut_to_the_longest_step() -> None:
    it = device(limits=replace(LIMITS, step_ms=50.0))
    prompt(it)
    work = it.step()
    assert isinstance(work, Prefill)
    assert len(work.tokens) == 64  # of 65 that fit in 50 ms, a multiple of 8
    assert it.now == 49.0


@pytest.mark.parametrize(
    ("per_token_ms", "margin", "chunk"),
    # From one token to the next, in 0.8 of what was promised: a chunk of 1 + 0.75 n, and the step of 11.
    [
        (60.0, 1.0, 48),
        (120.0, 2.0, 48),
        (75.0, 1.0, 64),
        (32.5, 1.0, 16),
        (31.25, 1.0, 16),
        (27.5, 1.0, 13),
    ],
)
def test_a_chunk_leaves_a_stream_what_it_was_promised_per_token(per_token_ms: float, margin: float, chunk: int) -> None:
    it = device(replace(COSTS, margin=margin))
    stream(it, per_token_ms=per_token_ms)
    request = prompt(it)
    work = it.step()
    assert isinstance(work, Prefill)
    assert len(work.tokens) == chunk
    while request.phase is not Phase.ENDED:
        it.step()
    assert 11.0 < it.journeys["stream"].longest_gap_ms <= per_token_ms / margin


@pytest.mark.parametrize("costs", [COSTS, LinearCosts(base_ms=10.0, row_ms=1.0, entry_ms=0.0)])
def test_without_time_for_even_the_smallest_chunk_a_prompt_waits_for_promises(costs: LinearCosts) -> None:
    it = device(costs)
    stream(it, max_tokens=30, per_token_ms=13.0)
    prompt(it)
    assert kinds(it, 29 + 1) == "D" * 29 + "P"
    assert it.journeys["stream"].longest_gap_ms == 11.0


@pytest.mark.parametrize(("per_token_ms", "total_ms"), [(10.9, None), (None, 300.0)])
def test_a_promise_that_is_lost_holds_nobody_up(per_token_ms: float | None, total_ms: float | None) -> None:
    it = device()
    stream(it, max_tokens=100, per_token_ms=per_token_ms, total_ms=total_ms)
    prompt(it)
    assert kinds(it, 6) == "PDPDPD"


def test_an_unpromised_stream_keeps_half_its_speed() -> None:
    it = device()
    stream(it)
    request = prompt(it)
    assert kinds(it, 6) == "PDPDPD"
    while request.phase is not Phase.ENDED:
        it.step()
    # A step is 11 ms: 13 tokens.
    assert it.journeys["stream"].longest_gap_ms == 11.0 + COSTS.prefill_ms(13, 0)
    assert it.steps[Prefill] == 1 + 39


MIXING = replace(LIMITS, mixes=True, one_way=False)


def test_where_a_chunk_may_come_with_tokens_each_step_has_both() -> None:
    it = device(limits=MIXING)
    stream(it)
    request = prompt(it)
    work = it.step()
    assert isinstance(work, Mixed)
    # 0.75 for each of 27 and the row's token, and 1, are within twice the stream's own step of 11.
    assert (len(work.chunk.tokens), [row.request_id for row in work.rows.rows]) == (24, ["stream"])
    while request.phase is not Phase.ENDED:
        it.step()
    assert it.steps[Prefill] == 1
    assert it.journeys["stream"].longest_gap_ms <= 2 * 11.0
    assert it.journeys["prompt"].first_token_ms == it.journeys["stream"].last_token_ms


@pytest.mark.parametrize(("per_token_ms", "chunk"), [(60.0, 56), (32.5, 32), (27.5, 24)])
def test_a_chunk_with_tokens_leaves_a_stream_what_it_was_promised(per_token_ms: float, chunk: int) -> None:
    it = device(limits=MIXING)
    stream(it, per_token_ms=per_token_ms)
    prompt(it)
    work = it.step()
    assert isinstance(work, Mixed)
    assert len(work.chunk.tokens) == chunk
    assert it.journeys["stream"].longest_gap_ms <= 0.8 * per_token_ms


def test_before_promises_that_leave_no_chunk_a_prompt_waits_there_too() -> None:
    it = device(LinearCosts(base_ms=10.0, row_ms=1.0, token_ms=5.0, entry_ms=0.0), MIXING)
    stream(it, max_tokens=30, per_token_ms=14.0)
    prompt(it)
    assert kinds(it, 29 + 1) == "D" * 29 + "P"


def test_mixed_steps_leave_every_answer_what_it_is_alone() -> None:
    it = device(limits=MIXING)
    first = stream(it, "a", 40)
    prompts = [prompt(it, name, 300) for name in "bcd"]
    it.run()
    assert it.steps[Mixed] > 3
    for request in (first, *prompts):
        assert request.output == it.script.answer(request.prompt, request.max_tokens, one_way=False)


def test_where_no_chunk_goes_unnoticed_fair_ones_take_turns_with_tokens() -> None:
    it = device(LinearCosts(base_ms=10.0, row_ms=1.0))
    stream(it)
    request = prompt(it, tokens=40)
    assert kinds(it, 6) == "DPDPDP"
    assert request.computed_tokens == 3 * 8


def test_beside_a_promise_with_time_to_spare_an_unpromised_stream_starves_no_prompt() -> None:
    it = device(LinearCosts(base_ms=10.0, row_ms=1.0))
    stream(it, "promised", per_token_ms=100.0)
    stream(it, "unpromised")
    request = prompt(it, tokens=40)
    kinds(it, 6)
    assert request.computed_tokens >= 4


def test_a_promised_total_stops_prompts_while_its_tokens_still_fit() -> None:
    it = device()
    request = stream(it, max_tokens=21, total_ms=500.0)
    prompt(it, tokens=1000)
    it.run()
    journey = it.journeys["stream"]
    assert journey.ending is Ending.LENGTH
    assert journey.ended_ms is not None
    assert request.deadline_ms is not None
    # 20 tokens of 11 ms are 220; 1.3 times that was kept for them, and a chunk takes at most 50.
    assert request.deadline_ms - 150 < journey.ended_ms <= request.deadline_ms


def test_beside_a_promised_total_chunks_wait_until_they_are_worth_a_step() -> None:
    it = device(LinearCosts(base_ms=10.0, row_ms=1.0, entry_ms=0.0))
    stream(it, max_tokens=61, total_ms=60 * 11.0 * 1.3 + 1, per_token_ms=500.0)
    prompt(it, tokens=1000)
    sizes = []
    while it.journeys["stream"].ending is None:
        work = it.step()
        sizes += [len(work.tokens)] if isinstance(work, Prefill) else []
    assert it.journeys["stream"].ending is Ending.LENGTH
    assert len(sizes) >= 3
    assert min(sizes) >= 16


def test_what_is_due_first_goes_first_within_a_class() -> None:
    it = device()
    for name, due_ms in (("never", None), ("late", 900.0), ("soon", 500.0), ("later", 1900.0)):
        prompt(it, name, tokens=20, due_ms=due_ms)
    it.run()
    ended = sorted(it.journeys, key=lambda name: it.journeys[name].ended_ms or 0.0)
    assert ended == ["soon", "late", "later", "never"]


def test_prompts_that_are_due_alike_go_by_arrival() -> None:
    it = device()
    for name in ("first", "second", "third"):
        prompt(it, name, tokens=20)
    it.run()
    assert sorted(it.journeys, key=lambda name: it.journeys[name].ended_ms or 0.0) == ["first", "second", "third"]


def test_a_higher_class_has_all_steps() -> None:
    it = device()
    stream(it, "lower", priority=Priority.BACKGROUND)
    prompt(it, "lower prompt", priority=Priority.BACKGROUND, due_ms=1.0)
    stream(it, "higher", max_tokens=20)
    prompt(it, "higher prompt", tokens=100)
    served = set()
    while it.journeys["higher"].ending is None:
        served |= whose(it.step())
    assert served == {"higher", "higher prompt"}


def test_a_pace_promised_to_a_lower_class_is_kept_beside_a_higher_one() -> None:
    it = device()
    stream(it, "lower", priority=Priority.BACKGROUND, per_token_ms=50.0)
    stream(it, "higher", max_tokens=20, priority=Priority.CRITICAL)
    prompt(it, "higher prompt", priority=Priority.CRITICAL)
    it.run()
    assert it.journeys["lower"].longest_gap_ms <= 50.0


def test_a_lower_class_has_one_step_in_every_age() -> None:
    it = device(limits=replace(LIMITS, ageing_ms=200.0))
    stream(it, "lower", priority=Priority.BACKGROUND)
    stream(it, "higher", max_tokens=100)
    served = [(it.now, "lower" in whose(it.step())) for _ in range(99)]
    moments = [moment for moment, lower in served if lower]
    gaps = [after - before for before, after in pairwise(moments)]
    assert len(moments) >= 4
    assert all(200.0 <= gap <= 200.0 + 2 * 21.0 for gap in gaps)


def test_all_that_are_overdue_have_their_turns() -> None:
    it = device(limits=replace(LIMITS, ageing_ms=100.0))
    stream(it, "lower2", priority=Priority.BACKGROUND)
    prompts = [prompt(it, f"lower{index}", priority=Priority.BACKGROUND, due_ms=index) for index in range(2)]
    stream(it, "higher", max_tokens=150, priority=Priority.CRITICAL)
    before = [request.computed_tokens for request in prompts]
    while it.journeys["higher"].ending is None:
        it.step()
    assert all(request.computed_tokens > done for request, done in zip(prompts, before, strict=True))


class TestRiders:
    """Where one token alone is computed as in a chunk, prompts ride along in decode steps."""

    LIMITS = replace(LIMITS, smallest_chunk=1)
    # A row costs 1 ms beside 10 for the step, a chunk of n tokens 10 + 0.75 n: none goes unnoticed.
    COSTS = LinearCosts(base_ms=10.0, row_ms=1.0, entry_ms=0.0)

    def device(self, costs: LinearCosts = COSTS) -> VirtualDevice:
        return device(costs, self.LIMITS)

    def stream(self, it: VirtualDevice, max_tokens: int = 200, per_token_ms: float | None = None) -> None:
        """A stream whose own prompt is a step ago: right after a chunk, nobody rides."""
        stream(it, max_tokens=max_tokens, per_token_ms=per_token_ms)
        it.step()

    def test_a_prompt_rides_with_a_stream_to_its_first_token(self) -> None:
        it = self.device()
        self.stream(it)
        request = prompt(it, tokens=40)
        assert kinds(it, 40) == "D" * 40
        assert request.phase is Phase.ENDED
        assert it.journeys["stream"].longest_gap_ms == 12.0

    def test_several_ride_at_once_as_far_as_nobody_notices(self) -> None:
        it = self.device()
        self.stream(it)
        requests = [prompt(it, name, tokens=40) for name in ("first", "second", "third")]
        kinds(it, 10)
        assert [request.computed_tokens for request in requests] == [10, 10, 10]

    def test_riders_keep_what_streams_were_promised(self) -> None:
        it = self.device(replace(self.COSTS, row_ms=5.0))
        self.stream(it, max_tokens=30, per_token_ms=30.0)  # 24 of 30 ms count: 15 for its own row, 5 for one rider
        requests = [prompt(it, name, tokens=20) for name in ("first", "second")]
        kinds(it, 10)
        assert [request.computed_tokens for request in requests] == [10, 0]
        it.run()
        assert it.journeys["stream"].longest_gap_ms <= 24.0

    def test_where_a_promise_leaves_no_time_nobody_rides(self) -> None:
        it = self.device(replace(self.COSTS, row_ms=5.0))
        self.stream(it, max_tokens=30, per_token_ms=24.0)
        request = prompt(it, tokens=20)
        kinds(it, 10)
        assert request.computed_tokens == 0

    def test_a_chunk_that_goes_unnoticed_gets_on_sooner(self) -> None:
        it = self.device(COSTS)
        self.stream(it)
        prompt(it)
        assert kinds(it, 6) == "PDPDPD"

    def test_only_a_rider_s_last_token_is_answered(self) -> None:
        it = self.device()
        self.stream(it)
        prompt(it, tokens=3)
        rows = [it.step() for _ in range(3)]
        assert all(isinstance(work, Decode) for work in rows)
        samples = [[row.samples for row in work.rows] for work in rows if isinstance(work, Decode)]
        assert samples == [[True, False], [True, False], [True, True]]


class TestGuesses:
    LIMITS = replace(LIMITS, draft_tokens=3)
    COSTS = LinearCosts(base_ms=10.0, token_ms=0.1, row_ms=0.1, entry_ms=0.0)

    def repeating(self) -> VirtualDevice:
        """A device whose model says one word for ever."""
        return VirtualDevice(Scheduler(self.LIMITS, self.COSTS), script=Script(choices=1))

    def test_who_is_alone_has_several_tokens_in_a_step(self) -> None:
        it = self.repeating()
        stream(it, max_tokens=41)
        it.run()
        assert it.steps[Verify] >= 8
        assert it.steps[Verify] + it.steps[Decode] < 25

    def test_beside_another_there_is_no_guessing(self) -> None:
        it = self.repeating()
        stream(it, "one")
        stream(it, "two")
        assert "V" not in kinds(it, 30).lstrip("V")

    def test_a_step_of_guesses_keeps_the_promised_pace(self) -> None:
        it = self.repeating()
        stream(it, max_tokens=41, per_token_ms=10.2)
        it.run()
        assert it.steps[Verify] == 0
        assert it.journeys["stream"].longest_gap_ms <= 10.2

    def test_the_last_token_is_never_guessed_beyond(self) -> None:
        it = self.repeating()
        request = stream(it, max_tokens=12)
        it.run()
        assert len(request.output) == 12


class TestKnownTokens:
    """What a format dictated is run at once."""

    COSTS = LinearCosts(base_ms=10.0, token_ms=0.1, row_ms=0.1, entry_ms=0.0)

    def dictating(self, known_tokens: int, costs: LinearCosts = COSTS) -> VirtualDevice:
        limits = replace(LIMITS, known_tokens=known_tokens)
        return VirtualDevice(Scheduler(limits, costs), script=Script(choices=5, dictated=6))

    def test_who_is_alone_has_them_in_one_step_and_says_the_same(self) -> None:
        one_by_one, at_once = self.dictating(1), self.dictating(16)
        said = []
        for it in (one_by_one, at_once):
            request = stream(it, max_tokens=40)
            it.run()
            said.append(request.output)
        assert said[0] == said[1]
        assert one_by_one.steps[Verify] == 0
        assert at_once.now < 0.6 * one_by_one.now

    def test_no_step_takes_longer_than_steps_may(self) -> None:
        it = self.dictating(16, LinearCosts(base_ms=10.0, token_ms=15.0, row_ms=0.1, entry_ms=0.0))
        request = stream(it, max_tokens=40)
        it.run()
        assert len(request.output) == 40
        assert it.journeys["stream"].longest_gap_ms <= 6 * LIMITS.step_ms

    def test_a_promised_pace_is_kept(self) -> None:
        it = self.dictating(16)
        stream(it, max_tokens=40, per_token_ms=10.2)
        it.run()
        assert it.steps[Verify] == 0
