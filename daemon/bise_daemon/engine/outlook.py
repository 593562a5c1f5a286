"""What the engine publishes before and after each step, for those who decide about new requests elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bise_daemon.scheduler.forecast import Standing


@dataclass(frozen=True, slots=True)
class Outlook:
    """The scheduler when the present step is over, as far as that is foreseen; between two steps, as it is.

    Attributes:
        taken: requests the scheduler has ever been given; later ones are still on their way.
        at_ms: when that is.
        busy: there is work; without, time has not passed for anybody since `at_ms`.
        standings: of all its requests; to be copied, not changed.
        prefixes: tokens in the cache, and how many of each are there.
    """

    taken: int = 0
    at_ms: float = 0.0
    busy: bool = False
    standings: Sequence[Standing] = ()
    prefixes: Sequence[tuple[Sequence[int], int]] = ()
