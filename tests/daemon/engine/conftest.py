"""Engines on a scripted model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from bise_daemon.scheduler.limits import Limits
from scripted_engine import Rig, next_token


@pytest.fixture
def make_rig() -> Iterator[Callable[..., Rig]]:
    """Makes rigs, started or not; their threads end with the test."""
    rigs: list[Rig] = []

    def make(
        *,
        slots: int = 3,
        context: int = 64,
        budget: int | None = None,
        chunk: int = 4,
        successor: Callable[[Sequence[int]], int] = next_token,
        **limits: Any,
    ) -> Rig:
        rigs.append(Rig(Limits(slots, context, budget or slots * context, chunk, **limits), successor))
        return rigs[-1]

    yield make
    for rig in rigs:
        if rig.started:
            rig.engine.stop()
