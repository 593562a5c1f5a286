"""Where requests are received: admission with what is known now, and what became of its promises."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from bise_daemon.accuracy import Accuracy
from bise_daemon.admission import Admission, Ask, Capacity, Grant, Margins, check_format, check_prompt, check_queue
from bise_daemon.demand import Demand
from bise_daemon.engine.dispatcher import Dispatcher
from bise_daemon.engine.events import Finish, Finished
from bise_daemon.errors import Reason, RequestError
from bise_daemon.memory.governor import MemoryLevel, Verdict
from bise_daemon.scheduler.costs import StepCosts
from bise_daemon.scheduler.forecast import Standing
from bise_daemon.scheduler.request import Priority, Request
from bise_daemon.scheduler.slots import longest_match

# Lengths of answers that the model ended itself: what others will likely take, where nothing was promised to them.
_LENGTHS = 64
_FEWEST_LENGTHS = 10


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that got in: what it asked for, what it was granted by the forecast, and what its caller is told."""

    ask: Ask
    grant: Grant
    told: Grant

    def request(self, request_id: str, prompt: Sequence[int]) -> Request:
        """It as the scheduler's."""
        ask = self.ask
        request = Request(
            request_id,
            prompt,
            self.grant.max_tokens,
            ask.deadline_ms,
            None if ask.first_token_ms is None else ask.arrived_ms + ask.first_token_ms,
            ask.per_token_ms,
            ask.priority,
            ask.total_ms is not None,
            ask.arrived_ms,
            self.grant.aim_ms,
        )
        request.reused_tokens = ask.cached_tokens
        return request


class Reception:
    """Belongs to the event loop; asks the engine nothing, so an answer takes as long however busy that is.

    Args:
        capacity: what there is when all is well.
        costs: of steps, as they are learned.
        clock: the engine's.

    Attributes:
        capacity: what there is now.
        level: how tight memory is.
        refusals: by reason.
        met, missed: requests with a stated budget that kept it, or did not, by class.
        first_token, total: how well predictions hold.
    """

    def __init__(
        self, capacity: Capacity, dispatcher: Dispatcher, costs: StepCosts, clock: Callable[[], float]
    ) -> None:
        self._whole = capacity
        self._dispatcher = dispatcher
        self._costs = costs
        self._clock = clock
        self._lengths: deque[int] = deque(maxlen=_LENGTHS)
        self._demand = Demand()
        self.capacity = capacity
        self.level = MemoryLevel.NORMAL
        self.refusals: Counter[str] = Counter()
        self.met: Counter[Priority] = Counter()
        self.missed: Counter[Priority] = Counter()
        self.first_token = Accuracy()
        self.total = Accuracy()

    def govern(self, verdict: Verdict) -> None:
        """Takes over what the memory there is allows; idle prefixes go first."""
        self.level = verdict.level
        idle_tokens = self._whole.limits.idle_tokens if verdict.level is MemoryLevel.NORMAL else 0
        limits = replace(self._whole.limits, kv_budget_tokens=verdict.kv_budget_tokens, idle_tokens=idle_tokens)
        context_limit = min(self._whole.context_limit, verdict.context_limit)
        if limits != self.capacity.limits:
            self._dispatcher.engine.limit(limits)
        self.capacity = replace(self._whole, limits=limits, context_limit=context_limit)

    @property
    def longest_step_ms(self) -> float:
        """What a step may take that is under way when something happens."""
        limits = self.capacity.limits
        return max(limits.step_ms, self._costs.decode_ms(limits.slots, 0))

    def check_queue(self) -> None:
        """Refuses when too many wait.

        Raises:
            RequestError: QUEUE_FULL.
        """
        check_queue(self.capacity, self._dispatcher.open_requests)

    def cached_tokens(self, prompt: Sequence[int]) -> int:
        """How many tokens of a prompt are computed already."""
        held = ((0, tokens, count) for tokens, count in self._dispatcher.engine.outlook.prefixes)
        return longest_match(prompt, held, len(prompt) - self.capacity.limits.smallest_chunk).tokens

    def admit(self, prompt: Sequence[int], ask: Ask) -> Admitted:
        """Grants a request what can be promised now.

        Raises:
            RequestError: what can't be; see `check_prompt` and `Admission.grant`.
        """
        self.check_queue()
        check_format(ask.max_tokens, ask.shortest_tokens)
        room = check_prompt(self.capacity, prompt, ask.max_tokens, ask.must_fit_tokens)
        outlook = self._dispatcher.engine.outlook
        standings = [self._likely(standing) for standing in self._dispatcher.standings()]
        # Nobody joins the step that runs: a forecast goes on from its end, which is now at the earliest.
        now = max(outlook.at_ms, self._clock()) if outlook.busy else self._clock()
        margins = Margins(self.first_token.margin, self.total.margin)
        ask = replace(ask, cached_tokens=self.cached_tokens(prompt))
        self._demand.check(ask, room, self._costs, self._clock(), busy=bool(standings))
        admission = Admission(self.capacity.limits, self._costs, margins, standings, now)
        try:
            grant = admission.grant(ask, room)
        except RequestError:
            self._demand.refused(ask)
            raise
        return Admitted(ask, grant, told(ask, grant, self.first_token, self.total))

    def refused(self, error: RequestError) -> None:
        """Counts a refusal. One for want of time on an idle device may rest on old figures, which are then renewed."""
        self.refusals[error.reason.value] += 1
        engine = self._dispatcher.engine
        if error.reason is Reason.BUDGET and not engine.outlook.busy:
            engine.probe()

    def settle(self, admitted: Admitted, finished: Finished) -> None:
        """Learns from what became of a request."""
        ask, grant, times = admitted.ask, admitted.grant, finished.times
        if times.first_token is None or times.ended is None:
            self.missed[ask.priority] += ask.states_budget
            return
        first_ms, total_ms = times.first_token - ask.arrived_ms, times.ended - ask.arrived_ms
        said, tokens = admitted.told, finished.completion_tokens
        self.first_token.observe(grant.predicted_first_token_ms, said.predicted_first_token_ms, first_ms)
        if finished.finish is not Finish.DEADLINE:
            self.total.observe(grant.predicted_ms(tokens), said.predicted_ms(tokens), total_ms)
        if finished.finish in (Finish.EOS, Finish.STOP_SEQUENCE, Finish.TOOL_CALLS):
            self._lengths.append(finished.completion_tokens)
        if ask.first_token_ms is not None:
            self.first_token.settle(first_ms <= ask.first_token_ms)
        if ask.total_ms is not None:
            self.total.settle(finished.finish is not Finish.DEADLINE)
        if ask.states_budget:
            kept = finished.finish is not Finish.DEADLINE and ask.kept_by(first_ms, times.longest_gap_ms, total_ms)
            (self.met if kept else self.missed)[ask.priority] += 1

    def _likely(self, standing: Standing) -> Standing:
        """Without a promise to keep, an answer is expected to end as most do, not at the end of the context."""
        if not standing.promised and len(self._lengths) >= _FEWEST_LENGTHS:
            likely = sorted(self._lengths)[int(0.9 * (len(self._lengths) - 1))]
            standing.left_to_generate = min(standing.left_to_generate, max(1, likely))
        return standing


def told(ask: Ask, grant: Grant, first_token: Accuracy, total: Accuracy) -> Grant:
    """A grant with predictions as they usually come true, but for what a promise excludes."""
    first_ms = first_token.likely_ms(grant.predicted_first_token_ms)
    total_ms = total.likely_ms(grant.predicted_total_ms)
    if ask.first_token_ms is not None:
        first_ms = min(first_ms, ask.first_token_ms)
    if ask.total_ms is not None:
        total_ms = min(total_ms, ask.total_ms)
    return replace(grant, predicted_first_token_ms=min(first_ms, total_ms), predicted_total_ms=total_ms)
