"""The scheduler: continuous batching over slots, by class and deadline, with prompts cut so that streams keep pace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count

from bise_daemon.scheduler.chunks import chunk_tokens
from bise_daemon.scheduler.costs import StepCosts
from bise_daemon.scheduler.entry import Entrance, waiting_order, yielding_order
from bise_daemon.scheduler.limits import Limits
from bise_daemon.scheduler.request import Ending, Phase, Priority, Request
from bise_daemon.scheduler.rows import Rows
from bise_daemon.scheduler.step import Decode, Mixed, Outcome, Prefill, Settle, StepPlan, Verify, Work
from bise_daemon.scheduler.turn import Turn


class Scheduler:
    """Decides what each step runs.

    The owner calls `submit` and `abort` between steps, then `plan(now)`, runs the plan, and hands the outcome to
    `commit`.

    Attributes:
        limits: may be replaced between steps, by ones with another `kv_budget_tokens` and `idle_tokens`.
        costs: of steps on this device.
        preemptions: how often a running request had to wait again.
    """

    def __init__(self, limits: Limits, costs: StepCosts) -> None:
        self.limits = limits
        self.costs = costs
        self.preemptions = 0
        self._waiting: list[Request] = []
        self._rows = Rows(limits)
        self._turn = Turn(self._rows)
        self._turns = count(1)

    def submit(self, request: Request) -> None:
        """Takes a request that fits a slot (its owner has checked: see `fits`)."""
        assert self.fits(len(request.prompt), request.max_tokens), request
        assert request.phase is Phase.WAITING, request
        request.turn = next(self._turns)
        request.served_ms = request.arrived_ms
        self._waiting.append(request)

    def fits(self, prompt_tokens: int, max_tokens: int) -> bool:
        """Whether a request of these lengths can ever run."""
        return prompt_tokens >= 1 and prompt_tokens + max(1, max_tokens) - 1 <= self.limits.context_tokens

    def abort(self, request_id: str) -> bool:
        """Ends a request wherever it stands; False when it is not here (any more)."""
        for request in self._requests():
            if request.id == request_id:
                self._end(request)
                return True
        return False

    def pin(self, slot: int, tokens: Sequence[int]) -> None:
        """Declares that a spare slot holds these tokens for good, as a prefix for whoever begins alike."""
        self._rows.pin(slot, tokens)

    def plan(self, now: float) -> StepPlan:
        """What to do at `now` (milliseconds). `commit` must follow its work, unless that was given up."""
        expired = [each for each in self._requests() if each.deadline_ms is not None and each.deadline_ms <= now]
        for request in expired:
            self._end(request)
        self._yield_memory()
        self._fill_slots(now)
        self._rows.trim(min(self.limits.idle_tokens, self.limits.kv_budget_tokens - self._rows.reserved_tokens))
        work = self._turn.next(self.limits, self.costs, now) or self._settle()
        copies, releases = self._rows.take_changes()
        return StepPlan([each.id for each in expired], copies, releases, work)

    def commit(self, plan: StepPlan, outcomes: Mapping[str, Outcome], now: float) -> dict[str, Ending]:
        """Takes in what the plan's work gave. An outcome may be missing for a request that was aborted meanwhile.

        Args:
            outcomes: by request id, for each request that sampled.
            now: when the work was done.

        Returns:
            The requests that ended with this step, by id.
        """
        if isinstance(plan.work, Settle):
            self._rows.settled(plan.work)
        endings: dict[str, Ending] = {}
        for slot, computed_tokens in _advanced(plan.work, outcomes).items():
            if (request := self._rows.owner(slot)) is None:
                continue
            request.computed_tokens = computed_tokens
            request.served_ms = now
            if request.begun and not request.left_of_prompt:
                request.phase = Phase.DECODE
            if not request.left_to_prefill and not request.max_tokens:
                endings[request.id] = Ending.LENGTH
                self._end(request)
            if (outcome := outcomes.get(request.id)) is None:
                continue
            assert 1 <= len(outcome.tokens) <= request.left_to_generate, (request, len(outcome.tokens))
            self._turn.ran(plan.work, request, outcome)
            request.phase = Phase.DECODE
            request.output.extend(outcome.tokens)
            if outcome.stopped or not request.left_to_generate:
                endings[request.id] = Ending.STOPPED if outcome.stopped else Ending.LENGTH
                self._end(request)
        self._turn.over(plan.work)
        return endings

    @property
    def has_work(self) -> bool:
        """Whether `plan` could have anything to do."""
        return self.has_requests or self._rows.changed or self._rows.unsettled

    @property
    def has_requests(self) -> bool:
        """Whether somebody waits for something."""
        return bool(self._waiting or self._rows.running)

    @property
    def waiting(self) -> Sequence[Request]:
        """Requests without a slot."""
        return self._waiting

    @property
    def running(self) -> list[Request]:
        """Requests that hold a slot, by slot."""
        return self._rows.running

    @property
    def cached_tokens(self) -> int:
        """Cache entries of running requests."""
        return sum(request.computed_tokens for request in self.running)

    @property
    def idle_tokens(self) -> int:
        """Cache entries kept of requests that are not running, pinned ones included."""
        return self._rows.idle_tokens

    def prefixes(self) -> list[tuple[Sequence[int], int]]:
        """The tokens each slot holds, and how many of them: what a new request may find computed already."""
        return self._rows.prefixes()

    def empty_row(self) -> tuple[int, int] | None:
        """A slot and the place in it where a step may write without harm to anybody; None if there is none."""
        return self._rows.empty_row()

    def check_integrity(self) -> None:
        """Asserts what must hold between steps; for tests and debugging."""
        ids = [request.id for request in self._requests()]
        assert len(ids) == len(set(ids)), "a request is in two places"
        assert len(self.running) <= self.limits.slots, "more run than may"
        assert self._turn.drafting <= set(ids), "a drafter outlived its request"
        for request in self._waiting:
            assert request.slot is None, request
            assert request.phase is Phase.WAITING, request
        self._rows.check_integrity()

    def _requests(self) -> Iterator[Request]:
        yield from [*self._waiting, *self.running]

    def _yield_memory(self) -> None:
        """Interrupts background work when the budget has shrunk below what runs, but for the last that runs."""
        background = [each for each in self.running if each.priority is Priority.BACKGROUND]
        for request in sorted(background, key=yielding_order, reverse=True):
            if len(self.running) == 1 or self._rows.reserved_tokens <= self.limits.kv_budget_tokens:
                return
            self._preempt(request)

    def _fill_slots(self, now: float) -> None:
        self._waiting.sort(key=lambda request: waiting_order(request, now, self.limits.ageing_ms))
        while (entry := Entrance(self.running, self.limits, self.costs, now).first(self._waiting)) is not None:
            for request in entry.yielding:
                self._preempt(request)
            self._waiting.remove(entry.entrant)
            self._rows.seat(entry.entrant, self.costs)

    def _settle(self) -> Work | None:
        limits, costs = self.limits, self.costs

        def most_tokens(left_tokens: int, context_tokens: int) -> int:
            return chunk_tokens(left_tokens, limits.step_ms, limits, lambda n: costs.prefill_ms(n, context_tokens))

        return self._rows.settle(min(limits.idle_tokens, limits.kv_budget_tokens), most_tokens)

    def _preempt(self, request: Request) -> None:
        self._rows.vacate(request, ends=False)
        request.phase, request.computed_tokens = Phase.WAITING, 0
        self._waiting.append(request)
        self.preemptions += 1

    def _end(self, request: Request) -> None:
        self._turn.forget(request)
        if request.slot is None:
            self._waiting.remove(request)
        else:
            self._rows.vacate(request, ends=True)
        request.phase = Phase.ENDED


def _advanced(work: Work | None, outcomes: Mapping[str, Outcome]) -> dict[int, int]:
    """Computed tokens by slot, once the work is done."""
    match work:
        case Prefill(slot=slot, start=start, tokens=tokens):
            return {slot: start + len(tokens)}
        case Verify(slot=slot, start=start, tokens=tokens, samples=False):
            return {slot: start + len(tokens)}
        case Verify(request_id=request_id, slot=slot, start=start, tokens=tokens) if request_id in outcomes:
            # The guesses that held are in the cache, with the tokens before them; what was sampled last is not.
            return {slot: start + len(tokens) + outcomes[request_id].held}
        case Decode(first_slot=first_slot, rows=rows):
            return {slot: row.position + 1 for slot, row in enumerate(rows, first_slot) if row.request_id is not None}
        case Mixed(chunk=chunk, rows=step):
            return _advanced(chunk, outcomes) | _advanced(step, outcomes)
    return {}
