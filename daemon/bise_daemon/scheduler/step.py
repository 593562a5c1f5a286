"""A step: what the engine runs next, as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prefill:
    """Some prompt tokens of one request.

    Attributes:
        start: tokens of this slot already in the cache.
        samples: the prompt ends with this chunk, so its last position gives the first token.
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
    """

    request_id: str | None
    token: int
    position: int


@dataclass(frozen=True, slots=True)
class Decode:
    """One token for each row; row i is slot `first_slot + i`."""

    first_slot: int
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True)
class Move:
    """Bring the first `tokens` cache entries from one slot to an empty one; the source is then empty."""

    source: int
    target: int
    tokens: int


@dataclass(frozen=True, slots=True)
class StepPlan:
    """What to do now.

    Attributes:
        expired: requests that ended because their deadline passed.
        released: slots whose cache entries nobody needs any more; let go first, since `moves` may fill them again.
        moves: what to bring together before the work.
        work: what to run; None when there is nothing.
    """

    expired: Sequence[str]
    released: Sequence[int]
    moves: Sequence[Move]
    work: Prefill | Decode | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step gave one request: the token sampled, and whether it ends the generation by its content."""

    token: int
    stopped: bool
