"""A request as the scheduler knows it: tokens, budgets and a place, never text or options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum


class Priority(IntEnum):
    """Classes, the first first."""

    CRITICAL = 0
    INTERACTIVE = 1
    BACKGROUND = 2


class Phase(Enum):
    """Where a request stands. WAITING → PREFILL → DECODE → ENDED; preempted, back to WAITING; any may go to ENDED."""

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


@dataclass(slots=True, eq=False)
class Request:
    """One generation.

    Attributes:
        id: unique among the requests of a scheduler.
        prompt: at least one token.
        max_tokens: as granted; prompt and answer together fit a slot. 0 computes the prompt only, for whoever comes
            with it, or goes on from it.
        deadline_ms: when it must have ended, on the clock of `plan(now)`; None is never.
        promised: the deadline is a budget its caller stated and admission granted, not only the end of patience.
        first_token_by_ms: when its first token is due, on the same clock; None is no promise.
        per_token_ms: the most between one token and the next; None is no promise.
        priority: its class.
        arrived_ms: on the same clock.
        aim_ms: when a promised deadline's answer should be complete, so much earlier as predictions may be wrong;
            None is the deadline itself.
        leaves_prefix: what it computed stays for whoever begins alike.
    """

    id: str
    prompt: Sequence[int] = field(repr=False)  # nobody's words belong in a log
    max_tokens: int
    deadline_ms: float | None = None
    first_token_by_ms: float | None = None
    per_token_ms: float | None = None
    priority: Priority = Priority.INTERACTIVE
    promised: bool = False
    arrived_ms: float = 0.0
    aim_ms: float | None = None
    leaves_prefix: bool = True
    phase: Phase = field(default=Phase.WAITING, init=False)
    turn: int = field(default=0, init=False)
    """Rank among all requests, by arrival."""
    slot: int | None = field(default=None, init=False)
    output: list[int] = field(default_factory=list, init=False, repr=False)
    """Tokens sampled so far; the last of them is not in the cache yet."""
    prefill_tokens: int = field(default=0, init=False)
    """Of prompt and output, those that are computed as a prompt; set with the slot."""
    computed_tokens: int = field(default=0, init=False)
    """Tokens of prompt and output whose keys and values are in the cache."""
    reused_tokens: int = field(default=0, init=False)
    """Prompt tokens it found in the cache when it got its slot; before that, what admission found."""
    served_ms: float = field(default=0.0, init=False)
    """When a step last served it; before that, when it arrived."""

    @property
    def begun(self) -> bool:
        """Whether its first token has been sampled."""
        return bool(self.output)

    @property
    def known(self) -> list[int]:
        """Prompt and output."""
        return [*self.prompt, *self.output]

    @property
    def next_input(self) -> int:
        """The first token that is not in the cache yet."""
        beyond = self.computed_tokens - len(self.prompt)
        return self.prompt[beyond] if beyond < 0 else self.output[beyond]

    @property
    def reserved_tokens(self) -> int:
        """Cache entries the request can come to need: the last token sampled is never fed back."""
        return len(self.prompt) + max(1, self.max_tokens) - 1

    @property
    def samples(self) -> bool:
        """Whether the next token to run is the last before one is sampled."""
        return self.left_to_prefill == 1 and self.max_tokens > 0

    @property
    def left_to_prefill(self) -> int:
        """Tokens to run before the next can be sampled; 1 while decoding."""
        return len(self.prompt) + len(self.output) - self.computed_tokens

    @property
    def left_of_prompt(self) -> int:
        """Of these, tokens to run as a prompt; those behind, if any, were sampled, and are run one by one again."""
        return max(0, self.prefill_tokens - self.computed_tokens)

    @property
    def answers(self) -> bool:
        """Whether the next token to run is run alone, as an answer's are, and not in a prompt's chunk."""
        return self.begun and (self.left_to_prefill == 1 or not self.left_of_prompt)

    @property
    def left_to_generate(self) -> int:
        """Tokens still granted."""
        return self.max_tokens - len(self.output)
