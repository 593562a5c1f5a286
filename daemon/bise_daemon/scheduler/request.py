"""A request as the scheduler knows it: lengths, a deadline and a place, never text or options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum


class Phase(Enum):
    """Where a request stands. WAITING → PREFILL → DECODE → ENDED; any phase may go to ENDED."""

    WAITING = "waiting"
    PREFILL = "prefill"
    DECODE = "decode"
    ENDED = "ended"


class Ending(Enum):
    """Why a request ended."""

    STOPPED = "stopped"
    LENGTH = "length"
    DEADLINE = "deadline"
    ABORTED = "aborted"


@dataclass(slots=True)
class Request:
    """One generation.

    Attributes:
        id: unique among the requests of a scheduler.
        prompt: at least one token.
        max_tokens: at least 1; prompt and answer together fit a slot.
        deadline_ms: when it must have ended, on the clock of `plan(now)`; None is never.
    """

    id: str
    prompt: Sequence[int] = field(repr=False)  # nobody's words belong in a log
    max_tokens: int
    deadline_ms: float | None = None
    phase: Phase = field(default=Phase.WAITING, init=False)
    turn: int = field(default=0, init=False)
    """Rank among all requests, by arrival."""
    slot: int | None = field(default=None, init=False)
    computed_tokens: int = field(default=0, init=False)
    """Tokens whose keys and values are in the cache."""
    generated_tokens: int = field(default=0, init=False)
    next_token: int = field(default=0, init=False)
    """The token sampled last, not yet in the cache."""

    @property
    def reserved_tokens(self) -> int:
        """Cache entries the request can come to need: the last token sampled is never fed back."""
        return len(self.prompt) + self.max_tokens - 1
