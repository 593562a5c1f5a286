"""The scheduler: continuous batching over slots, first come first served, prefill and decode in turn."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count

from bise_daemon.scheduler.request import Ending, Phase, Request
from bise_daemon.scheduler.step import Decode, Move, Outcome, Prefill, Row, StepPlan

# With a float cache, onnxruntime computes a single query token with another kernel, equal but for the last bits. A
# prompt must not come out differently for how it was cut, so a chunk of one token is never what is left of it.
_SMALLEST_CHUNK = 2


@dataclass(frozen=True, slots=True)
class Limits:
    """What the device gives.

    Attributes:
        slots: requests that may hold cache at once.
        context_tokens: cache entries one slot may hold.
        kv_budget_tokens: cache entries all slots together may hold.
        prefill_chunk_tokens: prompt tokens of one prefill step.
    """

    slots: int
    context_tokens: int
    kv_budget_tokens: int
    prefill_chunk_tokens: int


class Scheduler:
    """Decides what each step runs.

    The owner calls `submit` and `abort` between steps, then `plan(now)`, runs the plan, and hands the outcome to
    `commit`. A request holds its slot and its whole cache reservation from its first chunk to its end, so one that
    was started always finishes.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._waiting: deque[Request] = deque()
        self._slots: list[Request | None] = [None] * limits.slots
        self._released: list[int] = []
        self._turns = count()
        self._prefill_ran_last = False

    def submit(self, request: Request) -> None:
        """Takes a request that fits a slot and the budget (its owner has checked: see `fits`)."""
        assert self.fits(len(request.prompt), request.max_tokens), request
        assert request.phase is Phase.WAITING, request
        request.turn = next(self._turns)
        self._waiting.append(request)

    def fits(self, prompt_tokens: int, max_tokens: int) -> bool:
        """Whether a request of these lengths can ever run."""
        needed = prompt_tokens + max_tokens - 1
        return (
            prompt_tokens >= 1
            and max_tokens >= 1
            and needed <= min(self.limits.context_tokens, self.limits.kv_budget_tokens)
        )

    def abort(self, request_id: str) -> bool:
        """Ends a request wherever it stands; False when it is not here (any more)."""
        for request in self._requests():
            if request.id == request_id:
                self._end(request)
                return True
        return False

    def plan(self, now: float) -> StepPlan:
        """What to do at `now` (milliseconds). Nothing of the plan may be skipped, and `commit` must follow its work."""
        expired = [each for each in self._requests() if each.deadline_ms is not None and each.deadline_ms <= now]
        for request in expired:
            self._end(request)
        self._fill_slots()
        moves = self._compact()
        released, self._released = self._released, []
        return StepPlan([each.id for each in expired], released, moves, self._work())

    def commit(self, plan: StepPlan, outcomes: Mapping[str, Outcome]) -> dict[str, Ending]:
        """Takes in what the plan's work gave. An outcome may be missing for a request that was aborted meanwhile.

        Args:
            outcomes: by request id, for each request that sampled a token.

        Returns:
            The requests that ended with this step, by id.
        """
        match plan.work:
            case Prefill(slot=slot, start=start, tokens=tokens):
                self._prefill_ran_last = True
                advanced = {slot: start + len(tokens)}
            case Decode(first_slot=first_slot, rows=rows):
                self._prefill_ran_last = False
                advanced = {
                    first_slot + offset: row.position + 1
                    for offset, row in enumerate(rows)
                    if row.request_id is not None
                }
            case None:
                advanced = {}
        endings: dict[str, Ending] = {}
        for slot, computed_tokens in advanced.items():
            request = self._slots[slot]
            if request is None:
                continue
            request.computed_tokens = computed_tokens
            if (outcome := outcomes.get(request.id)) is not None and (ending := _advance(request, outcome)) is not None:
                endings[request.id] = ending
                self._end(request)
        return endings

    @property
    def has_work(self) -> bool:
        """Whether `plan` could have anything to do."""
        return bool(self._waiting or self._released or any(self._slots))

    @property
    def waiting(self) -> int:
        """Requests without a slot."""
        return len(self._waiting)

    @property
    def slots_used(self) -> int:
        """Slots that a request holds."""
        return sum(request is not None for request in self._slots)

    @property
    def cached_tokens(self) -> int:
        """Cache entries in use."""
        return sum(request.computed_tokens for request in self._slots if request is not None)

    def check_integrity(self) -> None:
        """Asserts what must hold between steps; for tests and debugging."""
        ids = [request.id for request in self._requests()]
        assert len(ids) == len(set(ids)), "a request is in two places"
        for slot, request in enumerate(self._slots):
            if request is not None:
                assert request.slot == slot, (slot, request)
                assert request.phase in (Phase.PREFILL, Phase.DECODE), request
                assert request.computed_tokens <= request.reserved_tokens <= self.limits.context_tokens, request
                if request.phase is Phase.DECODE:
                    assert request.computed_tokens == len(request.prompt) + request.generated_tokens - 1, request
        for request in self._waiting:
            assert request.slot is None, request
            assert request.phase is Phase.WAITING, request
        assert self._reserved_tokens() <= self.limits.kv_budget_tokens

    def _requests(self) -> Iterator[Request]:
        yield from [*self._waiting, *(request for request in self._slots if request is not None)]

    def _reserved_tokens(self) -> int:
        return sum(request.reserved_tokens for request in self._slots if request is not None)

    def _fill_slots(self) -> None:
        while self._waiting and None in self._slots:
            first = self._waiting[0]
            if self._reserved_tokens() + first.reserved_tokens > self.limits.kv_budget_tokens:
                return
            self._waiting.popleft()
            first.slot = self._slots.index(None)
            first.phase = Phase.PREFILL
            self._slots[first.slot] = first

    def _compact(self) -> list[Move]:
        """Moves decoding rows down into empty slots, so that a decode step carries no filler for long."""
        moves = []
        decoding = [slot for slot, request in enumerate(self._slots) if request and request.phase is Phase.DECODE]
        while decoding and None in self._slots[decoding[0] : (source := decoding[-1])]:
            target = self._slots.index(None, decoding[0])
            request = self._slots[source]
            assert request is not None
            self._slots[target], self._slots[source], request.slot = request, None, target
            moves.append(Move(source, target, request.computed_tokens))
            decoding = sorted([*decoding[:-1], target])
        return moves

    def _work(self) -> Prefill | Decode | None:
        prefilling = [request for request in self._slots if request and request.phase is Phase.PREFILL]
        decoding = [slot for slot, request in enumerate(self._slots) if request and request.phase is Phase.DECODE]
        # In turn, so that neither a long prompt stops the streams nor the streams a prompt.
        if prefilling and not (decoding and self._prefill_ran_last):
            return self._prefill(min(prefilling, key=lambda request: request.turn))
        if decoding:
            return self._decode(decoding[0], decoding[-1])
        return None

    def _prefill(self, request: Request) -> Prefill:
        assert request.slot is not None
        start = request.computed_tokens
        left = len(request.prompt) - start
        size = min(self.limits.prefill_chunk_tokens, left)
        if left - size == 1 and size > _SMALLEST_CHUNK:
            size -= 1
        tokens = request.prompt[start : start + size]
        return Prefill(request.id, request.slot, start, tokens, start + len(tokens) == len(request.prompt))

    def _decode(self, first: int, last: int) -> Decode:
        return Decode(first, [self._row(request) for request in self._slots[first : last + 1]])

    def _row(self, request: Request | None) -> Row:
        if request is None:
            return Row(None, 0, 0)
        if request.phase is Phase.DECODE:
            return Row(request.id, request.next_token, request.computed_tokens)
        return Row(None, 0, request.computed_tokens)

    def _end(self, request: Request) -> None:
        if request.slot is None:
            self._waiting.remove(request)
        else:
            self._slots[request.slot] = None
            self._released.append(request.slot)
            request.slot = None
        request.phase = Phase.ENDED


def _advance(request: Request, outcome: Outcome) -> Ending | None:
    request.phase = Phase.DECODE
    request.next_token = outcome.token
    request.generated_tokens += 1
    if outcome.stopped:
        return Ending.STOPPED
    return Ending.LENGTH if request.generated_tokens == request.max_tokens else None
