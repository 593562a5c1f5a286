"""How requests will stand when the step that is about to run is over: whoever comes meanwhile has to wait for it."""

from __future__ import annotations

from collections.abc import Iterable

from bise_daemon.scheduler.costs import StepCosts
from bise_daemon.scheduler.forecast import Standing
from bise_daemon.scheduler.step import Decode, Mixed, Prefill, Settle, Verify, Work


def step_ms(work: Work, costs: StepCosts) -> float:
    """What a step is expected to take; nothing where it is given up for whoever comes."""
    match work:
        case Prefill(start=start, tokens=tokens):
            return costs.prefill_ms(len(tokens), start)
        case Decode(rows=rows):
            return costs.decode_ms(len(rows), sum(row.position for row in rows))
        case Mixed(chunk=chunk, rows=Decode(rows=rows)):
            entries = sum(row.position for row in rows)
            return costs.mixed_ms(len(chunk.tokens), chunk.start, len(rows), entries)
        case Verify(start=start, tokens=tokens):
            return costs.verify_ms(len(tokens), start)
        case Settle():
            return 0.0


def after_step(work: Work, standings: Iterable[Standing]) -> list[Standing]:
    """Those that are left after a step, if no answer ends before its time and no guess holds.

    Args:
        standings: of all requests, as the step was planned; they are moved ahead.
    """
    gained = _gained(work)
    found = []
    for each in standings:
        tokens = gained.get(each.id, 0)
        each.computed_tokens += tokens
        if each.left_to_prefill:
            each.left_to_prefill -= tokens
            sampled = bool(tokens) and not each.left_to_prefill
            each.begun |= sampled
            each.left_to_generate -= sampled
        else:
            each.left_to_generate -= tokens
        if each.left_to_generate >= 1:
            found.append(each)
    return found


def _gained(work: Work) -> dict[str, int]:
    """The cache entries that each request gets."""
    match work:
        case Prefill(request_id=request_id, tokens=tokens):
            return {request_id: len(tokens)}
        case Decode(rows=rows):
            return {row.request_id: 1 for row in rows if row.request_id is not None}
        case Mixed(chunk=chunk, rows=rows):
            return _gained(chunk) | _gained(rows)
        case Verify(request_id=request_id):
            return {request_id: 1}
        case Settle():
            return {}
