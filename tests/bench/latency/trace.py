"""The trace: which requests come when. Pure, and the same for the same seed, whoever is to answer."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from .prose import prose
from .shapes import Budget, Shape

Encode = Callable[[Sequence[str]], Sequence[Sequence[int]]]
"""Token ids of each text, by the tokenizer of the model that both servers run."""

Variant = tuple[str, int]
"""A shape's name and a turn: requests that are alike in cost."""

# Conversations open at once: a turn comes when somebody else has spoken, not right behind its predecessor.
_OPEN_CONVERSATIONS = 2


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a prompt. Segments with the same key hold the same tokens."""

    key: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Draft:
    """A request without its time: what is asked."""

    shape: Shape
    turn: int
    segments: tuple[Segment, ...]

    @property
    def variant(self) -> Variant:
        """What it costs as much as."""
        return self.shape.name, self.turn


@dataclass(frozen=True, slots=True)
class Call:
    """A request as it is sent.

    Attributes:
        at_ms: when it is due, from the trace's begin.
        prompt: token ids.
        answer_tokens: how many are to come, end of sequence or not.
    """

    shape: str
    turn: int
    at_ms: float
    prompt: tuple[int, ...]
    answer_tokens: int
    budget: Budget


def drafts(shapes: Sequence[Shape], count: int, seed: str) -> list[Draft]:
    """`count` requests, their shapes drawn by weight; conversations go on in the order they were begun."""
    draw = random.Random(f"{seed} shapes")
    chosen = draw.choices(shapes, [shape.weight for shape in shapes], k=count)
    conversations: dict[str, deque[Draft]] = {shape.name: deque() for shape in shapes}
    found = []
    for number, shape in enumerate(chosen):
        opened = conversations[shape.name]
        draft = opened.popleft() if len(opened) >= _OPEN_CONVERSATIONS else _first_turn(shape, f"{seed} {number}")
        found.append(draft)
        if draft.turn < shape.later_turns:
            opened.append(_next_turn(draft, f"{seed} {number}"))
    return found


def variants(shapes: Sequence[Shape], seed: str) -> Iterator[Draft]:
    """One request of every variant, sharing nothing with any other."""
    for shape in shapes:
        for turn in range(shape.later_turns + 1):
            key = f"{seed} {shape.name} {turn}"
            yield Draft(shape, turn, (Segment(key, shape.prompt_tokens(turn)),))


def arrivals_ms(count: int, mean_ms: float, longest_ms: float, seed: str) -> list[float]:
    """When a Poisson process with this mean gap has its first events: at most `count`, none after `longest_ms`.

    The same seed gives the same times for any mean, but for their scale.
    """
    draw = random.Random(f"{seed} arrivals")
    times = accumulate(draw.expovariate(1.0) * mean_ms for _ in range(count))
    return [time for time in times if time <= longest_ms]


def calls(
    asked: Sequence[Draft], times_ms: Sequence[float], encode: Encode, budgets: Mapping[Variant, Budget]
) -> list[Call]:
    """Puts drafts and times together; drafts beyond the last time are left out.

    Raises:
        ValueError: a text gave fewer tokens than its segment wants.
    """
    timed = list(zip(asked, times_ms, strict=False))
    segments = sorted({segment for draft, _ in timed for segment in draft.segments}, key=lambda one: one.key)
    texts = [prose(segment.key, segment.tokens) for segment in segments]  # a word is at least a token
    tokens: dict[Segment, Sequence[int]] = {}
    for segment, ids in zip(segments, encode(texts), strict=True):
        if len(ids) < segment.tokens:
            raise ValueError(f"segment {segment.key!r}: expected {segment.tokens} tokens or more, got {len(ids)}")
        tokens[segment] = ids[: segment.tokens]
    return [
        Call(
            draft.shape.name,
            draft.turn,
            at_ms,
            tuple(token for segment in draft.segments for token in tokens[segment]),
            draft.shape.answer_tokens,
            budgets[draft.variant],
        )
        for draft, at_ms in timed
    ]


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a draft begins with, and the numbers of earlier drafts that begin alike: any of them leaves it in a cache.

    The last token of a prompt is never counted: its logits are needed.
    """

    tokens: int
    held_by: frozenset[int]


def beginnings(asked: Sequence[Draft]) -> list[list[Beginning]]:
    """For each draft, what it shares with earlier ones, the longest first."""
    seen: dict[tuple[Segment, ...], set[int]] = {}
    found = []
    for number, draft in enumerate(asked):
        prompt, shared = sum(segment.tokens for segment in draft.segments), []
        for parts in range(1, len(draft.segments) + 1):
            segments = draft.segments[:parts]
            if holders := seen.setdefault(segments, set()):
                tokens = sum(segment.tokens for segment in segments)
                shared.append(Beginning(min(tokens, prompt - 1), frozenset(holders)))
            holders.add(number)
        found.append(shared[::-1])
    return found


def _first_turn(shape: Shape, key: str) -> Draft:
    shared = (Segment(f"{shape.name} shared", shape.shared_tokens),) if shape.shared_tokens else ()
    return Draft(shape, 0, (*shared, Segment(f"{key} question", shape.own_tokens)))


def _next_turn(before: Draft, key: str) -> Draft:
    """The history holds an answer of the trace's own, not the server's: both servers must get the same prompts."""
    shape = before.shape
    added = Segment(f"{key} answer", shape.answer_tokens), Segment(f"{key} reply", shape.turn_tokens)
    return Draft(shape, before.turn + 1, (*before.segments, *added))
