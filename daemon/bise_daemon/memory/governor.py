"""The governor: folds readings of memory into a level, a budget for the cache, and a context limit. Pure.

What the kernel says is available changes as we use it, so the governor counts keys and values it already holds as
usable: *available + held* stays put whatever requests come and go, and falls only when somebody else takes memory.
A reserve of it is never given to requests (`fit.reserve_bytes`); losing that is the main sign of trouble.

Worse news counts with one reading, better news only after it has held:

- the level worsens at once, by as much as it must; it improves a step at a time, each after `hold_ms` in which every
  signal stayed below half of what would have raised it;
- memory that came back counts once it has been there for `hold_ms`: the budget is made from the least of that time.

Requests that run are nobody's business here. A budget below what they reserve means that none begins before enough of
them have ended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from math import inf
from typing import NamedTuple

from bise_daemon.memory.fit import kv_budget_tokens, reserve_bytes
from bise_daemon.memory.reading import Events, Reading

# Fewer tokens than this hold no prompt worth an answer (also the smallest `context` that can be configured).
_LEAST_CONTEXT_TOKENS = 16
# Callers see the limit and build prompts by it: it must not follow every page that comes and goes.
_CONTEXT_STEP_TOKENS = 64
_RECOVERY = 0.5


class MemoryLevel(IntEnum):
    """How tight memory is; the numbers are `bise.v1.Status.MemoryLevel`'s."""

    NORMAL = 1
    TIGHT = 2
    CRITICAL = 3


# New requests may count on one part in so many of the memory nobody holds yet, and of the whole context: when signals
# say that less is available than the kernel believes, what is left is spent in ever smaller parts.
_PARTS = {MemoryLevel.NORMAL: 1, MemoryLevel.TIGHT: 2, MemoryLevel.CRITICAL: 4}


@dataclass(frozen=True, slots=True)
class Signal:
    """One measure of trouble, the larger the worse.

    Attributes:
        name: what a field engineer reads.
        tight: from where on memory is TIGHT.
        critical: from where on it is CRITICAL.
    """

    name: str
    measure: Callable[[Reading, Events], float]
    tight: float
    critical: float

    def level(self, reading: Reading, growth: Events, share: float = 1.0) -> MemoryLevel:
        """The level it stands for, with its thresholds at a share of themselves."""
        value = self.measure(reading, growth)
        if value >= self.critical * share:
            return MemoryLevel.CRITICAL
        return MemoryLevel.TIGHT if value >= self.tight * share else MemoryLevel.NORMAL


def _reserve_taken(reading: Reading, _: Events) -> float:
    """Share of the reserve that is gone; 0 or less while it is whole."""
    return 1 - reading.available_bytes / reserve_bytes(reading.limit_bytes)


def _at_limit(reading: Reading, growth: Events) -> float:
    # A group full of page cache lives at its limit and is well: reclaiming counts once the reserve is touched.
    return growth.at_limit if _reserve_taken(reading, growth) > 0 else 0


SIGNALS = (
    # A full cache leaves exactly the reserve, and a step's own buffers (65 MiB at the worst, measured for
    # `fit.reserve_bytes`) come out of it: a quarter of the smallest reserve is 64 MiB. Below four tenths left, 102 MiB
    # of the smallest, one such step could be the one that meets the limit.
    Signal("reserve", _reserve_taken, tight=0.25, critical=0.6),
    # Stalls for a tenth of the time make steps a ninth longer: more than predictions may err (10 % in the median).
    # At four tenths they take 1.7 times as long, near the bar for a disturbed stream (2 times its solo p99).
    Signal("pressure some", lambda reading, _: reading.pressure.some, tight=0.1, critical=0.4),
    # While all tasks wait, nothing is computed at all, and such time comes in bursts: half of the above. systemd-oomd
    # begins to kill at 0.6 over 30 s by default; a third of that is early enough to have acted before.
    Signal("pressure full", lambda reading, _: reading.pressure.full, tight=0.05, critical=0.2),
    Signal("at the limit", _at_limit, tight=1, critical=inf),
    # The kernel had nothing left for somebody in our groups: the next could be us.
    Signal("out of memory", lambda _, growth: growth.beyond, tight=1, critical=1),
)


@dataclass(frozen=True, slots=True)
class Rules:
    """What is governed.

    Attributes:
        bytes_per_token: of the cache, at least 1.
        most_tokens: what all slots together could hold.
        most_context_tokens: what one request may hold when memory is no matter.
        hold_ms: how long better news must hold, more than 0. 10 s is the span the kernel averages pressure over:
            sooner, its figures still speak of the time before.
    """

    bytes_per_token: int
    most_tokens: int
    most_context_tokens: int
    hold_ms: float = 10_000.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the scheduler and admission go by until the next.

    Attributes:
        kv_budget_tokens: what all requests together may hold, idle prefixes included; may be less than what runs.
        context_limit: tokens a new request may hold; 0 refuses all.
        cause: the signals that last raised the level, or kept it from falling; empty when it is NORMAL.
    """

    level: MemoryLevel
    kv_budget_tokens: int
    context_limit: int
    cause: str = ""


class _Sighting(NamedTuple):
    """Bytes that were available or already ours, at a moment."""

    now_ms: float
    total_bytes: int


class Governor:
    """Turns readings into verdicts; to be asked some times a second, by one caller.

    At the start all is well until a reading says otherwise.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._level = MemoryLevel.NORMAL
        self._cause = ""
        self._deserved_ms = -inf
        """When the level was last what the signals asked for, but for the margin of recovery."""
        self._events: Events | None = None
        self._totals: deque[_Sighting] = deque()
        """Rising both ways: the first is the least of the hold time."""

    def update(self, reading: Reading, now_ms: float, kv_committed_bytes: int) -> Verdict:
        """What holds from now on.

        Args:
            reading: the latest.
            now_ms: when it was taken; never less than before.
            kv_committed_bytes: keys and values in memory, idle ones included, counted *before* the reading was taken: a
                slot released between the two is then counted twice, for one reading, and forgotten; the other way
                round it would be missed, and held against us for `hold_ms`.
        """
        growth = self._growth(reading.events)
        self._judge(reading, growth, now_ms)
        total_bytes = self._least_total(reading.available_bytes + kv_committed_bytes, now_ms)
        usable_bytes = total_bytes - reserve_bytes(reading.limit_bytes)
        unclaimed_bytes = max(0, usable_bytes - kv_committed_bytes)
        usable_bytes -= unclaimed_bytes - unclaimed_bytes // _PARTS[self._level]
        rules = self._rules
        budget_tokens = kv_budget_tokens(usable_bytes, rules.bytes_per_token, rules.most_tokens)
        return Verdict(self._level, budget_tokens, self._context_limit(budget_tokens), self._cause)

    def _growth(self, events: Events) -> Events:
        """What happened since the last reading; nothing before the first."""
        before, self._events = self._events or events, events
        return events.since(before)

    def _judge(self, reading: Reading, growth: Events, now_ms: float) -> None:
        level, cause = _worst(reading, growth)
        if level > self._level:
            self._level, self._cause, self._deserved_ms = level, cause, now_ms
            return
        level, cause = _worst(reading, growth, _RECOVERY)
        if level >= self._level:
            self._cause, self._deserved_ms = cause, now_ms
        elif now_ms - self._deserved_ms >= self._rules.hold_ms:
            self._level, self._deserved_ms = MemoryLevel(self._level - 1), now_ms
        if self._level is MemoryLevel.NORMAL:
            self._cause = ""

    def _least_total(self, total_bytes: int, now_ms: float) -> int:
        """The least of the last `hold_ms`, this one included."""
        totals = self._totals
        while totals and totals[-1].total_bytes >= total_bytes:
            totals.pop()
        totals.append(_Sighting(now_ms, total_bytes))
        while now_ms - totals[0].now_ms >= self._rules.hold_ms:
            totals.popleft()
        return totals[0].total_bytes

    def _context_limit(self, budget_tokens: int) -> int:
        """Whole steps of what the level allows and the budget holds; the smallest usable limit below one step."""
        most_tokens = self._rules.most_context_tokens
        tokens = min(budget_tokens, max(_LEAST_CONTEXT_TOKENS, most_tokens // _PARTS[self._level]))
        if tokens >= most_tokens:
            return most_tokens
        if tokens >= _CONTEXT_STEP_TOKENS:
            return tokens - tokens % _CONTEXT_STEP_TOKENS
        return _LEAST_CONTEXT_TOKENS if tokens >= _LEAST_CONTEXT_TOKENS else 0


def _worst(reading: Reading, growth: Events, share: float = 1.0) -> tuple[MemoryLevel, str]:
    """The worst level any signal stands for, and which do."""
    levels = {signal.name: signal.level(reading, growth, share) for signal in SIGNALS}
    worst = max(levels.values())
    return worst, ", ".join(name for name, level in levels.items() if level is worst)
