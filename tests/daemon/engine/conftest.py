"""Engines on a scripted model."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from bise_daemon.scheduler.scheduler import Limits
from scripted_engine import Rig


@pytest.fixture
def make_rig() -> Iterator[Callable[..., Rig]]:
    """Makes rigs, started or not; their threads end with the test."""
    rigs: list[Rig] = []

    def make(*, slots: int = 3, context: int = 64, budget: int | None = None, chunk: int = 4) -> Rig:
        rigs.append(Rig(Limits(slots, context, budget or slots * context, chunk)))
        return rigs[-1]

    yield make
    for rig in rigs:
        if rig.started:
            rig.engine.stop()
