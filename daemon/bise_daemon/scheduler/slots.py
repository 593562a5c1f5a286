"""The slots of the cache: which request runs in which, and which tokens the others still hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from bise_daemon.scheduler.request import Request


@dataclass(slots=True, eq=False)
class Slot:
    """One row of the cache. With an owner it holds the owner's computed tokens; without, what `kept` says.

    Attributes:
        kept: tokens whose keys and values are still here, from the first position on.
        prompt_tokens: of these, the first ones that were computed as a prompt.
        said: an answer's tokens behind these, which are no prefix before they are computed as a prompt.
        used: rank by last use; larger is later.
        pinned: never given to a request; its tokens are only copied.
        ahead: they were computed for an answer that nobody had asked for yet.
    """

    index: int
    owner: Request | None = None
    kept: Sequence[int] = field(default=(), repr=False)
    prompt_tokens: int = 0
    said: Sequence[int] = field(default=(), repr=False)
    used: int = 0
    pinned: bool = False
    ahead: bool = False

    def clear(self) -> None:
        """Nothing is held here any more, unless for an owner."""
        self.kept, self.prompt_tokens, self.said, self.ahead = (), 0, (), False

    @property
    def tokens(self) -> Sequence[int]:
        """The tokens this slot holds; of an owner, possibly more: see `held`."""
        return self.kept if self.owner is None else self.owner.prompt

    @property
    def held(self) -> int:
        """Cache entries that are valid as a prefix of `tokens`, for another prompt."""
        return self.prompt_tokens if self.owner is None else min(self.owner.computed_tokens, len(self.owner.prompt))

    def held_for(self, request: Request) -> int:
        """Cache entries that are valid for its prompt, and those for its output if it left them here itself."""
        prompt_tokens = len(request.prompt)
        mine = self.owner is None and self.prompt_tokens == prompt_tokens
        return len(self.kept) if mine else min(self.held, request.prefill_tokens)

    @property
    def entries(self) -> int:
        """Cache entries that are valid: what a row of this slot attends to, and where a filler may write."""
        return len(self.kept) if self.owner is None else self.owner.computed_tokens


@dataclass(frozen=True, slots=True)
class Match:
    """The longest prefix found: `tokens` entries of `slot`; no slot when nothing matches."""

    slot: int | None
    tokens: int


def longest_match(prompt: Sequence[int], held: Iterator[tuple[int, Sequence[int], int]], most: int) -> Match:
    """Where the longest prefix of `prompt` is, up to `most` tokens.

    Args:
        held: slot, tokens, and how many of these are there.
    """
    best = Match(None, 0)
    for slot, tokens, count in held:
        limit = min(count, most, len(prompt))
        if limit > best.tokens and (common := common_prefix(prompt, tokens, limit)) > best.tokens:
            best = Match(slot, common)
    return best


def common_prefix(left: Sequence[int], right: Sequence[int], limit: int) -> int:
    """How many of the first `limit` tokens are equal. Slices compare at memory speed, so halving beats a loop."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        if list(left[low:middle]) == list(right[low:middle]):
            low = middle
        else:
            high = middle - 1
    return low
