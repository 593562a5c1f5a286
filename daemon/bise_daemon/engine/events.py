"""What the engine tells about a request, in order: any number of pieces, then one ending or one failure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from bise_daemon.chat.calls.call import CallDelta, MalformedCall
from bise_daemon.engine.generation import Piece
from bise_daemon.errors import RequestError


class Finish(Enum):
    """Why an answer is complete."""

    EOS = "eos"
    STOP_SEQUENCE = "stop_sequence"
    LENGTH = "length"
    DEADLINE = "deadline"
    TOOL_CALLS = "tool_calls"


@dataclass(frozen=True, slots=True)
class Times:
    """Moments of a request on the engine's clock, milliseconds; None for what never came."""

    started: float | None = None
    first_token: float | None = None
    ended: float | None = None
    last_token: float | None = None
    longest_gap_ms: float = 0.0
    """Between one token and the next."""


@dataclass(frozen=True, slots=True)
class Drafts:
    """Tokens guessed ahead, and how many of them the model confirmed."""

    guessed: int = 0
    confirmed: int = 0

    def __add__(self, other: Drafts) -> Drafts:
        return Drafts(self.guessed + other.guessed, self.confirmed + other.confirmed)


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer is complete; `text` and `calls` are what was still held back, `cached_tokens` those of the prompt not
    computed.

    `forced_tokens` are those a format left no choice about; `closed_early`: the format was closed before its time.
    """

    finish: Finish
    text: str
    completion_tokens: int
    times: Times
    cached_tokens: int = 0
    drafts: Drafts = Drafts()
    forced_tokens: int = 0
    closed_early: bool = False
    calls: Sequence[CallDelta | MalformedCall] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """There will be no more of the answer."""

    error: RequestError


Event = Piece | Finished | Failed
