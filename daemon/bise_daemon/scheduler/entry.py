"""Who gets a slot next, and who gives way for that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from bise_daemon.scheduler.costs import StepCosts
from bise_daemon.scheduler.limits import Limits
from bise_daemon.scheduler.order import Claim, rank, urgency

C = TypeVar("C", bound=Claim)


@dataclass(frozen=True, slots=True)
class Entry(Generic[C]):
    """Someone who gets a slot once all of `yielding` have given theirs back."""

    entrant: C
    yielding: Sequence[C]


class Entrance(Generic[C]):
    """The way to the slots, at one moment.

    Those that wait come in the order of their ranks. Where the first has no room, free room is kept for it. Yet a
    higher class may always take the place of a lower one that runs, whoever waits longer; who got its slot by age
    keeps it until a step served it.
    """

    def __init__(self, running: Sequence[C], limits: Limits, costs: StepCosts, now: float) -> None:
        self._running, self._limits, self._costs, self._now = running, limits, costs, now

    def first(self, waiting: Sequence[C]) -> Entry[C] | None:
        """Who enters next of those that wait, in order of `waiting_order`; None if nobody does."""
        blocked: C | None = None
        for each in waiting:
            if blocked is None or each.priority < blocked.priority:
                yielding = self._yielding(each, least=0 if blocked is None else 1)
                if yielding is not None:
                    return Entry(each, yielding)
                blocked = each
        return None

    def _yielding(self, entrant: C, least: int) -> Sequence[C] | None:
        """At least so many of lower classes, the lowest first, that make room by giving way; None if none can."""
        staying, yielding = list(self._running), list[C]()
        lower = sorted(self._lower(entrant), key=yielding_order)
        while len(yielding) < least or not self._has_room(entrant, staying):
            if not lower:
                return None
            yielding.append(lower.pop())
            staying.remove(yielding[-1])
        return yielding

    def _lower(self, entrant: C) -> list[C]:
        ageing_ms, now = self._limits.ageing_ms, self._now
        lower = [each for each in self._running if each.priority > entrant.priority]
        return [each for each in lower if rank(each, now, ageing_ms) > rank(entrant, now, ageing_ms)]

    def _has_room(self, entrant: C, running: Sequence[C]) -> bool:
        if not running:
            # Whatever the budget has become: admission promised it its memory.
            return True
        rows = [entrant, *running]
        # As long as they may become: what is granted now must hold to the end.
        reserved_tokens = sum(row.reserved_tokens for row in rows)
        return (
            len(rows) <= self._limits.slots
            and reserved_tokens <= self._limits.kv_budget_tokens
            and self._keeps_pace(rows, reserved_tokens)
        )

    def _keeps_pace(self, rows: Sequence[C], context_tokens: int) -> bool:
        """Whether these rows in one decode step leave every promise per token standing, but for those lost anyway."""
        paced = [(row.per_token_ms, row.reserved_tokens) for row in rows if row.per_token_ms is not None]
        if not paced:
            return True
        step_ms = self._costs.decode_ms(len(rows), context_tokens) * self._costs.margin
        return all(step_ms <= pace_ms or self._costs.decode_ms(1, tokens) > pace_ms for pace_ms, tokens in paced)


def waiting_order(claim: Claim, now: float, ageing_ms: float) -> tuple[int, float, int]:
    """Sorts those that wait: class, by age, then what is due first."""
    return rank(claim, now, ageing_ms), *urgency(claim)


def yielding_order(claim: Claim) -> tuple[int, float, int]:
    """Sorts so that who gives way first comes last: the lowest class, what is due latest, who came last."""
    return claim.priority, *urgency(claim)
