"""The shapes of request people run on this class of model, and what their callers allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

# A scaled-down part of a prompt keeps at least this many tokens, so that it is still there.
_FEWEST_TOKENS = 4


@dataclass(frozen=True, slots=True)
class Shape:
    """One kind of request, in tokens.

    Attributes:
        shared_tokens: what every request of this shape begins with: a system prompt, or tool definitions.
        own_tokens: what a first turn adds.
        answer_tokens: the answer's length, neither more nor less.
        weight: its share of all requests.
        later_turns: turns after the first; each is a request that repeats all before it.
        turn_tokens: the user's words in each later turn, behind the answer before.
    """

    name: str
    shared_tokens: int
    own_tokens: int
    answer_tokens: int
    weight: float
    later_turns: int = 0
    turn_tokens: int = 0

    def prompt_tokens(self, turn: int) -> int:
        """The prompt of a turn, the first being 0."""
        return self.shared_tokens + self.own_tokens + turn * (self.answer_tokens + self.turn_tokens)

    def scaled(self, factor: float) -> Shape:
        """The same shape with every length times `factor`."""

        def scale(tokens: int) -> int:
            return max(_FEWEST_TOKENS, round(tokens * factor)) if tokens else 0

        return replace(
            self,
            shared_tokens=scale(self.shared_tokens),
            own_tokens=scale(self.own_tokens),
            answer_tokens=scale(self.answer_tokens),
            turn_tokens=scale(self.turn_tokens),
        )


SHAPES = (
    Shape("quick FAQ", 300, 200, 150, 0.35),
    Shape("document summary", 0, 4000, 500, 0.15),
    Shape("code generation", 0, 1000, 800, 0.15),
    Shape("function calling", 1600, 400, 200, 0.20),
    Shape("multi-turn chat", 1000, 5000, 300, 0.15, later_turns=2, turn_tokens=700),
)
"""At full size. The chat's last turn is the 8,000 in, 300 out; the two before it are its history growing."""


def largest_context(shapes: Sequence[Shape]) -> int:
    """The most tokens one request holds, prompt and answer together."""
    return max(shape.prompt_tokens(shape.later_turns) + shape.answer_tokens for shape in shapes)


@dataclass(frozen=True, slots=True)
class Solo:
    """What one request of a shape takes on a device that does nothing else, with nothing cached."""

    first_token_ms: float
    per_token_ms: float
    total_ms: float


@dataclass(frozen=True, slots=True)
class Budget:
    """What a caller allows, in milliseconds from the moment the request was due."""

    first_token_ms: float
    per_token_ms: float
    total_ms: float


@dataclass(frozen=True, slots=True)
class Allowance:
    """How a budget follows from the solo time.

    Attributes:
        first_token_floor_ms: nobody notices less.
        first_token_factor: a caller accepts to wait behind two others of its kind, but never beyond the total.
        per_token_floor_ms: 20 tokens/s, twice as fast as people read; slower than speech recognition speaks.
        per_token_factor: the floor is no promise a slow device could keep alone; this is.
        total_factor: of the solo time, the part that batching and waiting may add.
        total_floor_ms: what the shortest answers may lose to one neighbour's chunk and the first token's floor.
    """

    first_token_floor_ms: float = 300.0
    first_token_factor: float = 3.0
    per_token_floor_ms: float = 50.0
    per_token_factor: float = 3.0
    total_factor: float = 2.5
    total_floor_ms: float = 300.0

    def budget(self, solo: Solo) -> Budget:
        """What a caller allows for a request that takes this long alone."""
        total_ms = self.total_floor_ms + self.total_factor * solo.total_ms
        return Budget(
            min(total_ms, max(self.first_token_floor_ms, self.first_token_factor * solo.first_token_ms)),
            max(self.per_token_floor_ms, self.per_token_factor * solo.per_token_ms),
            total_ms,
        )
