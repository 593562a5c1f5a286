"""How much is asked of the device: under overload, the largest requests are refused first."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from bise_daemon.admission import Ask
from bise_daemon.errors import Reason, RequestError
from bise_daemon.scheduler.costs import StepCosts
from bise_daemon.scheduler.request import Priority

# The latest requests with a budget tell what is asked for; fewer than some say nothing yet.
_WINDOW = 128
_FEWEST = 16
# An overload shows: of so many requests, at least so many could not be promised what they asked for.
_LATEST = 32
_FEWEST_REFUSED = 2
# Of the time, what whole chunks and half-full decode steps can be; the rest goes into small chunks and lone rows. Of
# 0.6 to 1.0, 0.6 and 0.65 let most requests meet their budgets (`python -m tests.bench.latency.virtual`, 2 × capacity).
_USEFUL_SHARE = 0.65
_CHUNK_TOKENS = 64
# An overload is over when fewer ask, and nobody knows when: this is how often it is worth finding out.
_RETRY_MS = 5000
_ROWS = 4


class Demand:
    """Requests with budgets that were asked for lately, granted or not, and the work in them.

    Where more is asked for than can be done, some must be refused; each large one granted costs several small ones
    theirs. So the limit is the size up to which all of the latest requests together fit the time they came in.
    """

    def __init__(self) -> None:
        self._asked: deque[tuple[float, float]] = deque(maxlen=_WINDOW)
        self._refused: deque[bool] = deque(maxlen=_LATEST)

    def check(self, ask: Ask, room_tokens: int, costs: StepCosts, now: float, *, busy: bool) -> None:
        """Takes a request into account, and refuses it if it is among the largest of too much.

        Callers who wait for one answer before they ask again keep a device busy without asking too much of it: it is
        too much when requests were refused for want of time lately. Requests without a budget, and those of the first
        class, are not asked about.

        Args:
            room_tokens: tokens there is room for in its answer.
            now: milliseconds.
            busy: others are open; an idle device refuses nobody for this.

        Raises:
            RequestError: BUDGET.
        """
        if not _counts(ask):
            return
        work_ms = _work_ms(ask, ask.least_answer(room_tokens), costs)
        self._asked.append((now, work_ms))
        overloaded = busy and sum(self._refused) >= _FEWEST_REFUSED
        self._refused.append(False)
        if not overloaded or work_ms < (largest_ms := self._largest_ms(now)):
            return
        self._refused[-1] = True
        raise RequestError(
            Reason.BUDGET,
            f"overload: expected at most {largest_ms:.0f} ms of work, got {work_ms:.0f} ms: more is asked of this "
            "device than it can do, and the largest requests are refused first. "
            f"Try again in {_RETRY_MS} ms, ask for less, or without a budget.",
            numbers={"missed": "overload", "budget_ms": round(largest_ms, 1), "needed_ms": round(work_ms, 1)},
            retry_after_ms=_RETRY_MS,
        )

    def refused(self, ask: Ask) -> None:
        """The request checked last is refused for want of time."""
        if _counts(ask):
            self._refused[-1] = True

    def _largest_ms(self, now: float) -> float:
        """The work of the smallest request that doesn't fit any more; infinite while all do."""
        if len(self._asked) < _FEWEST:
            return float("inf")
        left_ms = _USEFUL_SHARE * (now - self._asked[0][0])
        for work_ms in sorted(work_ms for _, work_ms in self._asked):
            left_ms -= work_ms
            if left_ms < 0:
                return work_ms
        return float("inf")


def _counts(ask: Ask) -> bool:
    return ask.states_budget and ask.priority is not Priority.CRITICAL


def _work_ms(ask: Ask, answer_tokens: int, costs: StepCosts) -> float:
    """What a request takes of a device that is well used: whole chunks, and shares of decode steps of several rows."""
    step_ms = costs.decode_ms(_ROWS, _ROWS * ask.prompt_tokens) / _ROWS
    return sum(_chunks_ms(ask.prompt_tokens, ask.cached_tokens, costs)) + (answer_tokens - 1) * step_ms


def _chunks_ms(prompt_tokens: int, cached_tokens: int, costs: StepCosts) -> Iterator[float]:
    for start in range(cached_tokens, prompt_tokens, _CHUNK_TOKENS):
        yield costs.prefill_ms(min(_CHUNK_TOKENS, prompt_tokens - start), start)
