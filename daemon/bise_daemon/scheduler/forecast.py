"""What would happen: the scheduler's policy run ahead in expected time, in strides of many steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bise_daemon.scheduler.chunks import chunk_beside, fair_chunk
from bise_daemon.scheduler.costs import StepCosts
from bise_daemon.scheduler.entry import Entrance, waiting_order
from bise_daemon.scheduler.limits import Limits
from bise_daemon.scheduler.order import decode_step_ms, slack, urgency
from bise_daemon.scheduler.request import Phase, Request
from bise_daemon.scheduler.riders import riders

# A stride is cut here, since what a step costs grows with the context it works on.
_STRIDE_PROMPT_TOKENS = 512
# Beside rows, a little more context may already make riding the better way.
_STRIDE_PROMPT_TOKENS_BESIDE_ROWS = 64
_STRIDE_STEPS = 128
# While a prompt waits for streams that were promised a pace; these get ahead of it, and then there is time again.
_HELD_UP_STEPS = 16
_LEAST_WAIT_MS = 1e-3
# While prompts ride along, or wait for streams that were promised a pace; these get ahead, and then there is more time.
_RIDDEN_STEPS = 32
# How often the ages of those that wait are looked at, as a share of `ageing_ms`; beside that, whenever one ends.
# Sorting 64 at each stride would take half of a forecast's time.
_LOOKS_AT_AGES = 0.25


@dataclass(slots=True, eq=False)
class Standing:
    """A request as a forecast moves it ahead; the fields are those of `Request`, but for fractions of tokens.

    Attributes:
        left_to_prefill: 0 once it decodes.
        running: it has a slot.
        begun: its first token is out.
    """

    id: str
    priority: int
    turn: int
    served_ms: float
    computed_tokens: int
    left_to_prefill: int
    left_to_generate: float
    reserved_tokens: int
    running: bool
    begun: bool
    deadline_ms: float | None
    first_token_by_ms: float | None
    per_token_ms: float | None
    promised: bool
    aim_ms: float | None = None

    @classmethod
    def of(cls, request: Request) -> Standing:
        """The standing of a request between two steps; one that waits is expected to find what it found before."""
        found_tokens = request.computed_tokens if request.slot is not None else request.reused_tokens
        return cls(
            request.id,
            request.priority,
            request.turn,
            request.served_ms,
            found_tokens,
            0 if request.phase is Phase.DECODE else len(request.prompt) + len(request.output) - found_tokens,
            request.left_to_generate + (request.left_to_prefill - 1 if request.phase is Phase.DECODE else 0),
            request.reserved_tokens,
            request.slot is not None,
            request.begun,
            request.deadline_ms,
            request.first_token_by_ms,
            request.per_token_ms,
            request.promised,
            request.aim_ms,
        )


@dataclass(frozen=True, slots=True)
class Forecast:
    """When a request is expected to have its first token (None: it has it already) and to end, in milliseconds."""

    first_token_at_ms: float | None
    ended_at_ms: float


def forecast(standings: Iterable[Standing], limits: Limits, costs: StepCosts, now: float) -> dict[str, Forecast]:
    """Runs everything to its end as the scheduler would if nothing else came, by request id.

    The steps of those overdue, filler rows, guesses ahead and answers that end early are left out.

    Args:
        standings: consumed: they are moved ahead.
    """
    ahead = _Ahead(standings, limits, costs, now)
    while ahead.running or ahead.waiting:
        ahead.stride()
    return ahead.done


class _Ahead:
    def __init__(self, standings: Iterable[Standing], limits: Limits, costs: StepCosts, now: float) -> None:
        self.limits, self.costs, self.now = limits, costs, now
        everyone = list(standings)
        self.running = [each for each in everyone if each.running]
        self.waiting = [each for each in everyone if not each.running]
        self.sort_at_ms = now
        self.left = False
        self.first_token_at_ms: dict[str, float] = {}
        self.done: dict[str, Forecast] = {}

    def stride(self) -> None:
        """To the next moment at which something changes, or as far as a step's cost stays about the same."""
        self._fill_slots()
        turn = min(each.priority for each in self.running)
        prompts = [each for each in self.running if each.left_to_prefill and each.priority == turn]
        rows = [
            each
            for each in self.running
            if not each.left_to_prefill and (each.priority == turn or (each.per_token_ms and each.priority > turn))
        ]
        for row in rows:
            row.served_ms = self.now
        if prompts:
            self._prefill(sorted(prompts, key=urgency), rows)
        else:
            self._decode(rows, _STRIDE_STEPS)
        for each in [each for each in rows if each.left_to_generate < 0.5]:
            self._end(each)

    def _fill_slots(self) -> None:
        if self.now >= self.sort_at_ms:
            ageing_ms = self.limits.ageing_ms
            self.waiting.sort(key=lambda each: waiting_order(each, self.now, ageing_ms))
            self.sort_at_ms = self.now + ageing_ms * _LOOKS_AT_AGES
        elif not self.left:
            return
        self.left = False
        while (entry := Entrance(self.running, self.limits, self.costs, self.now).first(self.waiting)) is not None:
            self.waiting.remove(entry.entrant)
            self.running.append(entry.entrant)
            for each in entry.yielding:
                # It keeps what it has computed: the cheaper of the two things that may become of it.
                self.running.remove(each)
                self.waiting.append(each)
                self.sort_at_ms = self.now

    def _prefill(self, prompts: Sequence[Standing], rows: Sequence[Standing]) -> None:
        """Chunks of the first prompt, and as many decode steps of the rows as their pace asks for; or riders."""
        costs, limits, head = self.costs, self.limits, prompts[0]
        tokens = min(head.left_to_prefill, _STRIDE_PROMPT_TOKENS_BESIDE_ROWS if rows else _STRIDE_PROMPT_TOKENS)
        context = head.computed_tokens + tokens // 2
        step_ms = decode_step_ms(rows, costs) if rows else 0.0
        room = slack(rows, self.now, step_ms, costs.margin)
        bound_ms = limits.step_ms - (step_ms if limits.mixes else 0.0)
        chunk_ms = self._chunk_ms(rows, step_ms)
        size = chunk_beside(head.left_to_prefill, room, bound_ms, limits, lambda some: chunk_ms(some, context))
        if rows and limits.rides:
            along = riders(size, prompts, rows, room, lambda some: decode_step_ms(some, costs), costs)
            if along is not None:
                self._ride(rows, along)
                return
        elif rows and size < limits.fair_chunk:
            if size or not room.adds_up_to(bound_ms):
                size = fair_chunk(head.left_to_prefill, room, bound_ms, limits, lambda some: chunk_ms(some, context))
            if not size:
                self._decode(rows, _HELD_UP_STEPS)
                return
        size = size or min(limits.smallest_chunk, tokens)
        # On average; the first chunk starts where the prompt stands, the last one ends with it.
        waited_ms = chunk_ms(size, head.computed_tokens + max(0, tokens - size) // 2)
        steps = 0.0
        if rows:
            # Not beyond the moment at which a total leaves no more time for this.
            tokens = min(tokens, max(size, int(min(room.spare_ms / waited_ms, tokens / size) * size)))
            chunks = 1.0 if limits.mixes else max(1.0, min(room.unnoticed_ms // waited_ms, 1e6))
            steps_per_token = 1 / (size * chunks)
            steps = min(tokens * steps_per_token, min(row.left_to_generate for row in rows))
            tokens = min(tokens, max(1, round(steps / steps_per_token)))
            self.now += steps * step_ms
            for row in rows:
                _generate(row, steps)
        self.now += tokens / size * waited_ms
        head.left_to_prefill -= tokens
        head.computed_tokens += tokens
        if not head.left_to_prefill:
            self._begin(head)

    def _chunk_ms(self, rows: Sequence[Standing], step_ms: float) -> Callable[[int, int], float]:
        """How long rows, whose step takes `step_ms`, wait for a chunk, by its tokens and context."""
        costs = self.costs
        if not (rows and self.limits.mixes):
            return costs.prefill_ms
        entries = int(sum(row.computed_tokens for row in rows))

        def waited_ms(tokens: int, context: int) -> float:
            # Two curves, each measured with its own noise: a mixed step can look shorter than the rows alone.
            return max(_LEAST_WAIT_MS, costs.mixed_ms(tokens, context, len(rows), entries) - step_ms)

        return waited_ms

    def _ride(self, rows: Sequence[Standing], along: Sequence[Standing]) -> None:
        """Decode steps with a token of some prompts, or of none, in each."""
        lefts = [*(row.left_to_generate for row in rows), *(each.left_to_prefill for each in along)]
        steps = max(1, round(min(_RIDDEN_STEPS, *lefts)))
        context = sum(row.computed_tokens for row in [*rows, *along])
        self.now += steps * self.costs.decode_ms(len(lefts), context + len(lefts) * steps // 2)
        for row in rows:
            _generate(row, steps)
        for each in along:
            each.left_to_prefill -= steps
            each.computed_tokens += steps
            if not each.left_to_prefill:
                self._begin(each)

    def _begin(self, each: Standing) -> None:
        """Its prompt is computed, and gives a token."""
        if not each.begun:
            each.begun = True
            self.first_token_at_ms[each.id] = self.now
        each.left_to_generate -= 1
        if each.left_to_generate < 0.5:
            self._end(each)

    def _decode(self, rows: Sequence[Standing], most_steps: int) -> None:
        steps = min(most_steps, min(row.left_to_generate for row in rows))
        context = sum(row.computed_tokens for row in rows) + int(len(rows) * steps / 2)
        self.now += steps * self.costs.decode_ms(len(rows), context)
        for row in rows:
            _generate(row, steps)

    def _end(self, each: Standing) -> None:
        self.running.remove(each)
        self.left = True
        self.done[each.id] = Forecast(self.first_token_at_ms.get(each.id), self.now)


def _generate(row: Standing, tokens: float) -> None:
    row.left_to_generate -= tokens
    row.computed_tokens += round(tokens)
