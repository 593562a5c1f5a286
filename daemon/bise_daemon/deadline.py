"""When an answer has to end: by its budget, and by its call's own deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from bise_daemon.engine.loop import clock_ms
from bise_proto.v1 import inference_pb2

# A partial answer must be on its way before the caller's own deadline cuts the line: this, and one step, before it. For
# callers who have time it is a hundredth of it: a neighbour that takes the cores delays both, and within half an hour
# beside one 52 of 5,759 calls were cut off without their answer (`python -m tests.bench.soak`).
_MARGIN_MS = 20.0
_MARGIN_SHARE, _MOST_MARGIN_MS = 0.01, 500.0


def deadline_ms(
    budget: inference_pb2.Budget, remaining_ms: float | None, arrived_ms: float, step_ms: float, default_ms: float
) -> float:
    """The earlier of the budget's end and the call's own deadline, on the engine's clock.

    Args:
        remaining_ms: until the call's own deadline, at its arrival; None where it has none.
        step_ms: the longest step.
        default_ms: what it may take where nobody says.
    """
    ends = [] if remaining_ms is None else [arrived_ms + usable_ms(remaining_ms, step_ms)]
    if budget.HasField("total_ms"):
        ends.append(arrived_ms + budget.total_ms)
    return min(ends, default=arrived_ms + default_ms)


def usable_ms(remaining_ms: float, step_ms: float) -> float:
    """How much of the time until a call's own deadline its answer may take; it may be less than nothing.

    Args:
        step_ms: the longest step.
    """
    share_ms = min(_MARGIN_SHARE * remaining_ms, _MOST_MARGIN_MS)
    return remaining_ms - max(_MARGIN_MS + step_ms, share_ms)


@contextmanager
def cancelled_after(end_ms: float) -> Iterator[None]:
    """Cancels the call at `end_ms` on the engine's clock: one whose caller never reads must not keep its place."""
    task = asyncio.current_task()
    assert task is not None
    timer = asyncio.get_running_loop().call_later(max(0.0, end_ms - clock_ms()) / 1e3, task.cancel)
    try:
        yield
    finally:
        timer.cancel()
