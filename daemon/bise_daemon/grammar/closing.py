"""How a text that a grammar allows is brought to an end, in few bytes.

llguidance says what may come next, and whether a text may end here, but not how it ends soonest. That is searched over
bytes: a matcher over 256 tokens says in 3 µs which of them may follow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from heapq import heappop, heappush
from itertools import count
from string import ascii_letters, ascii_lowercase, ascii_uppercase, digits, punctuation

import numpy as np
from llguidance import LLMatcher
from numpy.typing import NDArray

from bise_daemon.grammar.spelling import FIRST_SPECIAL

# The longest end that is looked for.
MOST_BYTES = 16_384
# Other ways that are tried, each in some 20 µs: where a format is tried, and while others wait for their next tokens.
TRIES_APART = 2_000
TRIES_BETWEEN_STEPS = 40
# An end of so many bytes needs no shorter one.
_SHORT_BYTES = 32
# Inside of a JSON string more bytes than this may follow, at a value's beginning fewer.
_STRING_BYTES = 60


# How soon a byte is likely to lead to an end, the best first. Between values, what closes comes before what opens, and
# words and numbers before strings, whose length may be bounded. Of digits, 0 comes last: behind "0." it can go on for
# ever.
_BETWEEN = ("}])", ",:", "123456789", "0", "ntf", '"', ascii_lowercase, ascii_uppercase + "_", "-")
_BEFORE_OPENERS, _BEHIND_OPENERS = "+/*'=<>;.!?", "{[( \n"
# Inside of a string only a quote ends it; the rest is text, and might end what is no string.
_INSIDE = ('"', "a", punctuation + " \n", ascii_letters + digits)


def _ranks(classes: Sequence[str]) -> NDArray[np.float32]:
    """The rank of each byte; those of no class come last."""
    ranks = np.full(FIRST_SPECIAL, len(classes), np.float32)
    for rank, characters in reversed(list(enumerate(classes))):
        ranks[list(characters.encode())] = rank
    return ranks


_RANKS_BETWEEN = _ranks((*_BETWEEN, _BEFORE_OPENERS, _BEHIND_OPENERS))
_RANKS_INSIDE = _ranks(_INSIDE)
# A worse class weighs as much as so many bytes more; and of one place, so many ways are tried.
_A_BYTE = 0.2
_MOST_BRANCHES = 40
# What was taken before at such a place led here again. So many times, and the next class is as good.
_REPEATED = 0.1


def find_closing(matcher: LLMatcher, most_tries: int = TRIES_BETWEEN_STEPS) -> list[int] | None:
    """A short way from where a matcher stands to an end, in tokens of the spelling; None when none was found.

    First the way that looks best at each place; where that leads nowhere, or is long and there is time, other ways,
    those that differ least from it first. It is short, not always the shortest.

    Args:
        matcher: over the spelling; left where it stands.
        most_tries: of other ways.
    """
    straight = _straight(matcher.deep_copy(), 10 * most_tries)
    if straight is not None and (len(straight) <= _SHORT_BYTES or most_tries < TRIES_APART):
        return straight
    around = _around(matcher, most_tries)
    found = [way for way in (straight, around) if way is not None]
    return min(found, key=len, default=None)


def rest_of_closing(matcher: LLMatcher, closing: list[int]) -> list[int] | None:
    """What is still needed of an end that was known before the text went on: the longest such part, or None.

    Inside a string that is all of it, behind one value of several what follows that value.
    """
    if matcher.is_accepting():
        return []
    allowed = int.from_bytes(matcher.compute_bitmask(), "little")
    for start, token in enumerate(closing):
        if allowed >> token & 1:
            ahead, rest = matcher.deep_copy(), closing[start:]
            if ahead.try_consume_tokens(rest) == len(rest) and ahead.is_accepting():
                return rest
    return None


def _straight(matcher: LLMatcher, most_choices: int) -> list[int] | None:
    tokens: list[int] = []
    taken: Counter[tuple[bytes, int]] = Counter()
    closed = b""  # the place of what closes and was taken last
    choices = 0
    while len(tokens) <= MOST_BYTES and choices <= most_choices and not matcher.is_error():
        if matcher.is_accepting():
            return tokens
        step = list(matcher.compute_ff_tokens())
        if not step:
            allowed, place = _allowed(matcher)
            if not allowed:
                return None
            if closed not in (b"", place):
                taken.clear()  # it got on
            step = [min(allowed, key=lambda each: each[0] + _REPEATED * taken[place, each[1]])[1]]
            choices += 1
            taken[place, step[0]] += 1
            closed = place if step[0] == allowed[0][1] and not allowed[0][0] else b""
        if matcher.try_consume_tokens(step) < len(step):
            return None
        tokens += step
    return None


def _around(matcher: LLMatcher, most_tries: int) -> list[int] | None:
    """The best first, by how far a text departs from what looks best, and a little by its length."""
    order = count()
    open_ = [(0.0, next(order), matcher.deep_copy(), list[int]())]
    for _ in range(most_tries):
        if not open_:
            return None
        cost, _, here, tokens = heappop(open_)
        if here.is_accepting():
            return tokens
        if here.is_error() or len(tokens) > MOST_BYTES:
            continue
        forced = list(here.compute_ff_tokens())
        steps = [(0.0, forced)] if forced else [(rank, [token]) for rank, token in _allowed(here)[0][:_MOST_BRANCHES]]
        for rank, step in steps:
            ahead = here.deep_copy()
            if ahead.try_consume_tokens(step) == len(step):
                further = cost + rank - steps[0][0] + _A_BYTE * len(step)
                heappush(open_, (further, next(order), ahead, tokens + step))
    return None


def _allowed(matcher: LLMatcher) -> tuple[list[tuple[float, int]], bytes]:
    """What may follow, as ranks and tokens, the best first; and what marks the place."""
    mask = matcher.compute_bitmask()
    tokens = np.flatnonzero(np.unpackbits(np.frombuffer(mask, np.uint8), bitorder="little"))
    texts = tokens[: int(tokens.searchsorted(FIRST_SPECIAL))]
    ranks = (_RANKS_INSIDE if texts.size > _STRING_BYTES else _RANKS_BETWEEN)[texts]
    ranked = sorted(zip(ranks.tolist(), texts.tolist(), strict=True))
    return ranked or [(0.0, int(token)) for token in tokens], mask
