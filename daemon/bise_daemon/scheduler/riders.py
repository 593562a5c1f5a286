"""Prompts that ride along: a token of theirs in the step that gives every stream its token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from bise_daemon.scheduler.costs import StepCosts
from bise_daemon.scheduler.order import Claim, Slack

C = TypeVar("C", bound=Claim)

# Where promises bound a chunk, one smaller than this costs more of their time than it is worth. Beside no such bound, 6
# let about 1 % more requests meet their budgets in four virtual traces of 1,000, at capacity and twice that; 1, 3 and 9
# could not be told from it by traces of 400.
_LEAST_CHUNK = 6


def riders(
    size: int,
    prompts: Sequence[C],
    rows: Sequence[C],
    room: Slack,
    step_ms: Callable[[Sequence[C]], float],
    costs: StepCosts,
) -> list[C] | None:
    """Whose next token joins the rows' decode step; None where a chunk of the first prompt gets on sooner.

    A further row costs a fraction of a step of its own, since the weights are read once. The first rider comes along
    as far as promises allow, so that no stream holds a prompt up for ever; more of them only where nobody notices.

    Args:
        size: of the chunk there is room for; 0 is none.
        prompts: the most urgent first.
        room: what the rows leave.
        step_ms: what one token for each of some requests takes.
    """
    alone_ms = step_ms(rows)
    along: list[C] = []
    for each in prompts:
        bound_ms = room.unnoticed_ms if along else room.promised_ms
        if step_ms([*rows, *along, each]) - alone_ms > bound_ms:
            break
        along.append(each)
    if size < (1 if room.unnoticed_ms < room.promised_ms else _LEAST_CHUNK):
        return along
    chunk_pace = size / (costs.prefill_ms(size, prompts[0].computed_tokens) + alone_ms)
    return along if len(along) / step_ms([*rows, *along]) >= chunk_pace else None
