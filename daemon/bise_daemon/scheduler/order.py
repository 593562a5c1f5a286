"""Whose turn it is: class, then deadline, then arrival; and how long others may make a stream wait."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from bise_daemon.scheduler.costs import StepCosts

# What a neighbour's prompt may take between two tokens of a stream that was promised no pace, as a share of the decode
# step itself. Below 1, so that with the noise of both the stream still keeps half its speed.
_NEIGHBOUR_SHARE = 0.8


class Claim(Protocol):
    """What a request may claim, as it stands: a `Request`, or a `Standing` of a forecast."""

    @property
    def priority(self) -> int: ...

    @property
    def turn(self) -> int: ...

    @property
    def deadline_ms(self) -> float | None: ...

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
        promised_ms: before a promise is broken, at the costs' margin.
        unnoticed_ms: with each stream at its pace: what it was promised per token, its promised total spread evenly
            over its tokens, or without promises a neighbour's share.
    """

    promised_ms: float
    unnoticed_ms: float


def slack(rows: Sequence[Claim], now: float, step_ms: float, margin: float) -> Slack:
    """Of decoding rows. A promise that their steps can't keep any more is no reason to hold others up.

    Args:
        step_ms: what one token for each of them takes.
        margin: of costs.
    """
    promised_ms = unnoticed_ms = float("inf")
    for row in rows:
        pace_ms = float("inf")
        if row.per_token_ms is not None and row.per_token_ms >= step_ms:
            pace_ms = row.per_token_ms / margin
            promised_ms = min(promised_ms, row.served_ms + pace_ms - step_ms - now)
        if row.promised and row.deadline_ms is not None:
            left_ms = row.deadline_ms - now
            if left_ms >= row.left_to_generate * step_ms:
                promised_ms = min(promised_ms, left_ms - row.left_to_generate * step_ms * margin)
                pace_ms = min(pace_ms, left_ms / (row.left_to_generate + 1) / margin)
        if pace_ms == float("inf"):
            pace_ms = step_ms * (1 + _NEIGHBOUR_SHARE)
        unnoticed_ms = min(unnoticed_ms, row.served_ms + pace_ms - step_ms - now)
    return Slack(promised_ms, min(promised_ms, unnoticed_ms))
