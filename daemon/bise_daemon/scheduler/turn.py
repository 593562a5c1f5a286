"""What runs next among those that hold a slot: a class, then a prompt's chunk, a token for every stream, or guesses."""

from __future__ import annotations

from collections.abc import Sequence

from bise_daemon.scheduler.chunks import ChunkMs, chunk_beside, chunk_tokens, fair_chunk
from bise_daemon.scheduler.costs import StepCosts
from bise_daemon.scheduler.drafts import Drafter
from bise_daemon.scheduler.limits import Limits
from bise_daemon.scheduler.order import Slack, slack, urgency
from bise_daemon.scheduler.request import Phase, Request
from bise_daemon.scheduler.riders import riders
from bise_daemon.scheduler.rows import Rows
from bise_daemon.scheduler.step import Decode, Outcome, Prefill, Verify, Work


class Turn:
    """Whose turn it is, step by step."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._drafters: dict[str, Drafter] = {}
        self._prefill_ran_last = False
        self._overdue_served_ms = float("-inf")

    @property
    def drafting(self) -> set[str]:
        """Requests that guesses are made for."""
        return set(self._drafters)

    def next(self, limits: Limits, costs: StepCosts, now: float) -> Work | None:
        """The work of the next step; None when nobody holds a slot."""
        running = self._rows.running
        if not running:
            return None
        if (overdue := self._overdue(running, limits, now)) is not None and (
            work := self._serve(overdue, limits, costs, now)
        ):
            self._overdue_served_ms = now
            return work
        turn = min(each.priority for each in running)
        prompts = [each for each in running if each.phase is Phase.PREFILL and each.priority == turn]
        # A lower class's promise per token is one too.
        rows = [
            each
            for each in running
            if each.phase is Phase.DECODE and (each.priority == turn or (each.per_token_ms and each.priority > turn))
        ]
        if not prompts:
            return self._guess(rows[0], limits, costs) if len(rows) == 1 else self._rows.decode(rows, costs)
        prompts.sort(key=urgency)
        head = prompts[0]
        room = self._slack(rows, costs, now)
        if rows and limits.mixes:
            return self._mix(head, rows, room, limits, costs)
        left, chunk_ms = head.left_of_prompt, _chunk_ms(head, costs)
        size = chunk_beside(left, room, limits.step_ms, limits, chunk_ms)
        if not rows:
            return _prefill(head, size, limits)
        if limits.rides:
            along = riders(size, prompts, rows, room, lambda some: self._rows.step_ms(some, costs), costs)
            if along is not None:
                return self._rows.decode(rows if self._prefill_ran_last else [*rows, *along], costs)
        elif not size and room.adds_up_to(limits.step_ms):
            return self._rows.decode(rows, costs)
        elif size < limits.fair_chunk:
            # One token and one chunk take turns.
            size = 0 if self._prefill_ran_last else fair_chunk(left, room, limits.step_ms, limits, chunk_ms)
            if not size:
                return self._rows.decode(rows, costs)
        return _prefill(head, size, limits)

    def ran(self, work: Work | None, request: Request, outcome: Outcome) -> None:
        """Learns what a request got from a step, before it is added to its output."""
        if (drafter := self._drafters.get(request.id)) is not None:
            if isinstance(work, Verify):
                drafter.observe(len(work.guesses), outcome.held)
            drafter.extend(outcome.tokens)

    def over(self, work: Work | None) -> None:
        """A step is over."""
        self._prefill_ran_last = isinstance(work, Prefill)

    def forget(self, request: Request) -> None:
        """A request ended."""
        self._drafters.pop(request.id, None)

    def _slack(self, rows: Sequence[Request], costs: StepCosts, now: float) -> Slack:
        return slack(rows, now, self._rows.step_ms(rows, costs), costs.margin)

    def _overdue(self, running: Sequence[Request], limits: Limits, now: float) -> Request | None:
        """Who waits longest below the first class, for one step in every `ageing_ms`."""
        first = min(each.priority for each in running)
        lower = [each for each in running if each.priority > first]
        longest = min(lower, key=lambda each: each.served_ms, default=None)
        if longest is None or now - max(longest.served_ms, self._overdue_served_ms) < limits.ageing_ms:
            return None
        return longest

    def _serve(self, overdue: Request, limits: Limits, costs: StepCosts, now: float) -> Work | None:
        """A step for this request; None while promises leave no time for it.

        Of a token, everybody has one, since that takes hardly longer.
        """
        rows = [each for each in self._rows.running if each.phase is Phase.DECODE]
        if overdue.phase is Phase.DECODE:
            return self._rows.decode(rows, costs)
        promised_ms = self._slack(rows, costs, now).promised_ms
        chunk_ms = _chunk_ms(overdue, costs)
        size = chunk_tokens(overdue.left_of_prompt, min(limits.step_ms, promised_ms), limits, chunk_ms)
        return _prefill(overdue, size, limits) if size or chunk_ms(limits.smallest_chunk) <= promised_ms else None

    def _mix(self, head: Request, rows: Sequence[Request], room: Slack, limits: Limits, costs: StepCosts) -> Work:
        """A chunk and a token for every row at once; only the tokens where promises leave nothing for a chunk."""
        count, entries = self._rows.span(rows)
        alone_ms = costs.decode_ms(count, entries)

        def waited_ms(tokens: int) -> float:
            return costs.mixed_ms(tokens, head.computed_tokens, count, entries) - alone_ms

        left, bound_ms = head.left_of_prompt, limits.step_ms - alone_ms
        size = chunk_beside(left, room, bound_ms, limits, waited_ms)
        if size < limits.fair_chunk and (size or not room.adds_up_to(bound_ms)):
            size = fair_chunk(left, room, bound_ms, limits, waited_ms)
        step = self._rows.decode(rows, costs)
        return self._rows.mixed(_prefill(head, size, limits), step) if size else step

    def _guess(self, request: Request, limits: Limits, costs: StepCosts) -> Decode | Verify:
        """Several tokens of a row that is alone: known ones, else guesses ahead where that is expected to pay."""
        if request.left_to_prefill > 1:
            return self._known(request, limits, costs)
        most = min(limits.draft_tokens, request.left_to_generate - 1)
        while most > 0 and not _in_time(request, most + 1, costs):
            most -= 1
        if most < 1:
            return self._rows.decode([request], costs)
        drafter = self._drafters.get(request.id)
        if drafter is None:
            drafter = self._drafters[request.id] = Drafter(request.prompt)
            drafter.extend(request.output)
        guesses = drafter.draft(drafter.length(costs, request.computed_tokens, most))
        if not guesses:
            return self._rows.decode([request], costs)
        assert request.slot is not None
        return Verify(request.id, request.slot, request.computed_tokens, request.output[-1:], guesses)

    def _known(self, request: Request, limits: Limits, costs: StepCosts) -> Decode | Verify:
        """Tokens that are known and were not run: as many as a step may take."""
        left, start = request.left_to_prefill, request.computed_tokens

        def fits(tokens: int) -> bool:
            return costs.verify_ms(tokens, start) <= limits.step_ms and _in_time(request, tokens, costs)

        size = min(left, limits.known_tokens)
        while size > 1 and not fits(size):
            size -= 1
        if size <= 1:
            return self._rows.decode([request], costs)
        assert request.slot is not None
        tokens = request.output[len(request.output) - left :][:size]
        return Verify(request.id, request.slot, start, tokens, samples=size == left)


def _in_time(request: Request, tokens: int, costs: StepCosts) -> bool:
    """Whether a step of so many tokens keeps what the request was promised per token."""
    step_ms = costs.verify_ms(tokens, request.computed_tokens) * costs.margin
    return request.per_token_ms is None or step_ms <= request.per_token_ms


def _chunk_ms(head: Request, costs: StepCosts) -> ChunkMs:
    """What a chunk of its own takes, by tokens."""
    return lambda tokens: costs.prefill_ms(tokens, head.computed_tokens)


def _prefill(request: Request, size: int, limits: Limits) -> Prefill:
    assert request.slot is not None
    start, known, last = request.computed_tokens, request.known, request.prefill_tokens
    end = start + max(size, limits.smallest_chunk)
    if last - end < limits.smallest_chunk:
        end = last
    return Prefill(request.id, request.slot, start, known[start:end], end == len(known) and request.max_tokens > 0)
