"""A step: what the engine runs next, as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prefill:
    """Some prompt tokens of one request.

    Attributes:
        start: tokens of this slot already in the cache.
        samples: the prompt ends with this chunk, so its last position gives the next token.
    """

    request_id: str
    slot: int
    start: int
    tokens: Sequence[int]
    samples: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a decode step: `token` enters the cache at `position`.

    Attributes:
        request_id: whose row it is; None for a filler, whose output nobody reads and whose cache entry lies beyond
            what its slot holds.
        samples: the next token comes from it; not from a filler, nor from a prompt's token before its last.
    """

    request_id: str | None
    token: int
    position: int
    samples: bool


@dataclass(frozen=True, slots=True)
class Decode:
    """One token for each row; row i is slot `first_slot + i`."""

    first_slot: int
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True)
class Mixed:
    """A prompt's chunk and one token for each row, in one run of the graph: its weights are read once for both."""

    chunk: Prefill
    rows: Decode


@dataclass(frozen=True, slots=True)
class Verify:
    """Several tokens of one answer: those that are known, and guesses of what follows.

    Logits after the last known one and after each guess tell which guesses hold.

    Attributes:
        start: where the first of `tokens` enters the cache.
        tokens: known and not in the cache: the token sampled last, and what a format dictated behind it.
        guesses: none, or some; at least two tokens in all.
        samples: nothing known is left behind these; otherwise there are no guesses, and no logits.
    """

    request_id: str
    slot: int
    start: int
    tokens: Sequence[int]
    guesses: Sequence[int] = ()
    samples: bool = True


@dataclass(frozen=True, slots=True)
class Settle:
    """Some tokens of an answer that has ended, computed as a prompt's behind the first `start` entries of a slot.

    Nobody waits for it: it is done when there is nothing else to do, for whoever goes on from that answer.
    """

    slot: int
    start: int
    tokens: Sequence[int]


Work = Prefill | Decode | Mixed | Verify | Settle


@dataclass(frozen=True, slots=True)
class Copy:
    """Bring the first `tokens` cache entries from one slot to another, over whatever that held."""

    source: int
    target: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Release:
    """Give back the memory of a slot beyond its first `tokens` entries."""

    slot: int
    tokens: int


@dataclass(frozen=True, slots=True)
class StepPlan:
    """What to do now, in this order.

    Attributes:
        expired: requests that ended because their deadline passed.
        copies: cache entries to bring to other slots, in order.
        releases: cache entries nobody needs any more.
        work: what to run; None when there is nothing to run now.
    """

    expired: Sequence[str]
    copies: Sequence[Copy]
    releases: Sequence[Release]
    work: Work | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step gave one request.

    Attributes:
        tokens: in order, at least one: the guesses that held, one that was sampled, and those that must follow it.
        stopped: the last of them ends the generation by its content.
        ahead: of these, those that are to be run before the last: nobody guessed them.
    """

    tokens: Sequence[int]
    stopped: bool
    ahead: int = 0

    @property
    def held(self) -> int:
        """Guesses that held."""
        return len(self.tokens) - 1 - self.ahead
