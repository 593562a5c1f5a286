"""Solo times: what each kind of request takes when it has the device to itself, and what follows from them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from .runner import Record, replay
from .server import Server, ServerError
from .shapes import Allowance, Budget, Shape, Solo
from .trace import Encode, Variant, calls, variants

# The fastest of so many is what the device does alone: a neighbour only ever adds. On two shared cores, medians of
# three differed by a factor of ten between alike prompts.
_ROUNDS = 3
_GENEROUS = Budget(first_token_ms=60e3, per_token_ms=60e3, total_ms=60e3)


async def solo_times(server: Server, shapes: Sequence[Shape], encode: Encode, seed: str) -> dict[Variant, Solo]:
    """Runs every variant alone on a started server, with prompts it has never seen.

    Raises:
        ServerError: an answer did not come whole.
    """
    seen: dict[Variant, list[Solo]] = {}
    for number in range(_ROUNDS):
        asked = list(variants(shapes, f"{seed} solo {number}"))
        budgets = {draft.variant: _GENEROUS for draft in asked}
        for draft, call in zip(asked, calls(asked, [0.0] * len(asked), encode, budgets), strict=True):
            (record,) = await replay(server, [call])
            seen.setdefault(draft.variant, []).append(_solo(server, record))
    return {variant: min(times, key=lambda time: time.total_ms) for variant, times in seen.items()}


def capacity_per_s(shapes: Sequence[Shape], solo: Mapping[Variant, Solo]) -> float:
    """Requests of the mix a server ends in a second one at a time, with nothing cached: the unit of load.

    Batching and prefix reuse let a server do more; so it is a unit, not a limit.
    """
    weights = sum(shape.weight for shape in shapes)
    mean_ms = sum(
        shape.weight / weights * statistics.fmean(solo[shape.name, turn].total_ms for turn in _turns(shape))
        for shape in shapes
    )
    return 1e3 / mean_ms


def budgets(
    shapes: Sequence[Shape], solos: Sequence[Mapping[Variant, Solo]], allowance: Allowance
) -> dict[Variant, Budget]:
    """What callers allow: by the solo time of the server that is slower alone, so that nobody fails for that."""
    found = {}
    for shape in shapes:
        for turn in _turns(shape):
            times = [solo[shape.name, turn] for solo in solos]
            slowest = Solo(
                max(time.first_token_ms for time in times),
                max(time.per_token_ms for time in times),
                max(time.total_ms for time in times),
            )
            found[shape.name, turn] = allowance.budget(slowest)
    return found


def _turns(shape: Shape) -> range:
    return range(shape.later_turns + 1)


def _solo(server: Server, record: Record) -> Solo:
    if not record.whole:
        raise ServerError(
            f"{server.name}, {record.call.shape} alone: expected {record.call.answer_tokens} tokens, "
            f"got {len(record.token_ms)} ({record.outcome}: {record.detail})"
        )
    sent_ms = record.late_ms
    return Solo(record.token_ms[0] - sent_ms, statistics.fmean(record.gaps_ms), record.token_ms[-1] - sent_ms)
