"""Whose turn it is: class, then deadline, then arrival; and how long others may make a stream wait."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from bise_daemon.scheduler.costs import StepCosts

# What a neighbour's prompt may take between two tokens of a stream that was promised no pace, as a share of the decode
# step itself. Below 1, so that with the noise of both the stream still keeps half its speed.
_NEIGHBOUR_SHARE = 1.0
# Of a promised time per token that chunks may fill: with all of it, 2 % of streams had one gap too long somewhere
# (`python -m tests.bench.latency.virtual`, 2 times capacity).
_PACE_SHARE = 0.8
# Time kept for the tokens left, over what they are expected to take: other rows may join. At 1.0 totals were missed, at
# 1.6 and 2 first tokens were, and fewer requests met their budgets than at 1.3 (the same bench).
_TOTAL_RESERVE = 1.3


class Claim(Protocol):
    """What a request may claim, as it stands: a `Request`, or a `Standing` of a forecast."""

    @property
    def priority(self) -> int: ...

    @property
    def turn(self) -> int: ...

    @property
    def deadline_ms(self) -> float | None: ...

    @property
    def aim_ms(self) -> float | None: ...

    @property
    def first_token_by_ms(self) -> float | None: ...

    @property
    def per_token_ms(self) -> float | None: ...

    @property
    def promised(self) -> bool: ...

    @property
    def served_ms(self) -> float: ...

    @property
    def computed_tokens(self) -> int: ...

    @property
    def begun(self) -> bool: ...

    @property
    def left_to_generate(self) -> float: ...

    @property
    def reserved_tokens(self) -> int: ...


def urgency(claim: Claim) -> tuple[float, int]:
    """Earlier is more urgent, within a class: what is due first, then who came first."""
    due = claim.deadline_ms if claim.begun or claim.first_token_by_ms is None else claim.first_token_by_ms
    return (float("inf") if due is None else due), claim.turn


def rank(claim: Claim, now: float, ageing_ms: float) -> int:
    """The class a waiting request counts as: its own, one less for each `ageing_ms` in which no step served it."""
    waited_ms = now - claim.served_ms
    return claim.priority - int(waited_ms // ageing_ms) if waited_ms >= ageing_ms else claim.priority


def decode_step_ms(rows: Sequence[Claim], costs: StepCosts) -> float:
    """What one token for each of these rows takes."""
    return costs.decode_ms(len(rows), int(sum(row.computed_tokens for row in rows)))


@dataclass(frozen=True, slots=True)
class Slack:
    """How long the next decode step of some rows may still wait, in milliseconds; infinite without rows.

    Attributes:
        promised_ms: before a promise is at risk.
        unnoticed_ms: before one is, or a stream without any is slower than a neighbour's share makes it.
        spare_ms: before a total is, whatever comes between single tokens. Prompts use this up, the others come again
            with every token.
    """

    promised_ms: float
    unnoticed_ms: float
    spare_ms: float

    def adds_up_to(self, bound_ms: float) -> bool:
        """Whether it is below a bound because of a total: then every decode step leaves more, and a chunk may wait."""
        return self.spare_ms <= self.unnoticed_ms and self.spare_ms < bound_ms


def slack(rows: Sequence[Claim], now: float, step_ms: float, margin: float) -> Slack:
    """Of decoding rows. A promise that their steps can't keep any more is no reason to hold others up.

    A promised total is kept by stopping prompts when the time left until its aim is what the tokens left take, and not
    by spreading the tokens evenly before: larger chunks between fewer steps cost less.

    Args:
        step_ms: what one token for each of them takes.
        margin: of costs.
    """
    promised_ms = shared_ms = spare_ms = float("inf")
    for row in rows:
        since_ms = now - row.served_ms
        paced = row.per_token_ms is not None and row.per_token_ms >= step_ms
        if paced and row.per_token_ms is not None:
            promised_ms = min(promised_ms, row.per_token_ms * _PACE_SHARE / margin - step_ms - since_ms)
        else:
            shared_ms = min(shared_ms, step_ms * _NEIGHBOUR_SHARE - since_ms)
        if row.promised and row.deadline_ms is not None:
            left_ms, needed_ms = row.deadline_ms - now, row.left_to_generate * step_ms
            if left_ms >= needed_ms:
                early_ms = 0.0 if row.aim_ms is None else row.deadline_ms - row.aim_ms
                spare_ms = min(spare_ms, left_ms - early_ms - needed_ms * margin * _TOTAL_RESERVE)
    promised_ms = min(promised_ms, spare_ms)
    return Slack(promised_ms, min(promised_ms, shared_ms), spare_ms)
