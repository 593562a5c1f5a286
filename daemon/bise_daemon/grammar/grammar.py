"""A compiled grammar, and what one answer may say next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from llguidance import LLMatcher
from numpy.typing import NDArray

from bise_daemon.engine.guide import Course
from bise_daemon.errors import Reason, RequestError
from bise_daemon.grammar.closing import find_closing, rest_of_closing
from bise_daemon.grammar.vocabulary import Vocabulary


@dataclass(slots=True, eq=False)
class Grammar:
    """What `compile_format` makes of a format; shared by all answers in it.

    Attributes:
        tokens: at the beginning of an answer, over the model's tokens.
        bytes: the same over bytes.
        closing: the short answer that was found, over bytes.
        shortest_tokens: its tokens: a grant of fewer could leave an answer that is not whole.
        broken: an answer could not follow it; what its answers share may be worn out.
    """

    vocabulary: Vocabulary
    tokens: LLMatcher
    bytes: LLMatcher
    closing: list[int]
    shortest_tokens: int
    broken: bool = False

    def guide(self, max_tokens: int) -> GrammarGuide:
        """For one answer of at most so many tokens, not fewer than the shortest."""
        return GrammarGuide(self, max_tokens)


class GrammarGuide:
    """Keeps an answer within a grammar, and always knows an end to it that fits the tokens that are left.

    A token is taken only if behind it there is such an end. Where there is none, the answer is closed: no step is run
    for that, since all its tokens are known.
    """

    closes = True

    def __init__(self, grammar: Grammar, max_tokens: int) -> None:
        assert max_tokens >= grammar.shortest_tokens, (max_tokens, grammar.shortest_tokens)
        self._grammar = grammar
        self._vocabulary = grammar.vocabulary
        self._tokens = grammar.tokens.deep_copy()
        self._bytes = grammar.bytes.deep_copy()
        self._closing = grammar.closing
        self._left = max_tokens
        self._mask = np.zeros((self._vocabulary.tokens.vocab_size + 31) // 32, np.int32)
        self._ended = False

    def allowed(self, vocab_size: int) -> NDArray[np.bool_]:
        """Which tokens may come next, bool [vocab]; padding beyond the tokenizer's may not.

        Raises:
            RequestError: ENGINE_FAILED, the grammar is too complex to go on.
        """
        self._tokens.unsafe_compute_mask_ptr(self._mask.ctypes.data, self._mask.nbytes)
        self._check()
        bits: NDArray[np.bool_] = np.unpackbits(self._mask.view(np.uint8), bitorder="little").view(np.bool_)
        known = self._vocabulary.tokens.vocab_size
        if vocab_size <= known:
            return bits[:vocab_size]
        return np.concatenate([bits[:known], np.zeros(vocab_size - known, np.bool_)])

    def take(self, token: int) -> Course:
        """Goes on with a token that was allowed, and with those that must follow it.

        Raises:
            RequestError: ENGINE_FAILED, as for `allowed`.
        """
        if self._vocabulary.is_eos(token):
            self._ended = True
            return Course([], ends=True)
        ahead, ahead_bytes = self._tokens.deep_copy(), self._bytes.deep_copy()
        tokens = [token]
        self._follow(ahead, ahead_bytes, tokens)
        if not ahead.is_stopped():
            forced = list(ahead.compute_ff_tokens())
            self._follow(ahead, ahead_bytes, forced)
            tokens += forced
        closing = self._closing_behind(ahead_bytes, self._left - len(tokens))
        if closing is None:
            return Course(self.close(), ends=True, closed_early=True)
        self._tokens, self._bytes, self._closing = ahead, ahead_bytes, closing
        self._left -= len(tokens)
        self._ended = ahead.is_stopped()
        return Course(tokens, ends=self._ended, forced=len(tokens) - 1)

    def close(self) -> list[int]:
        """The tokens that make the answer whole; none after its end."""
        if self._ended:
            return []
        self._ended = True
        return self._vocabulary.read(self._closing)

    def _follow(self, tokens: LLMatcher, spelled: LLMatcher, some: Sequence[int]) -> None:
        if not (tokens.consume_tokens(list(some)) and spelled.consume_tokens(self._vocabulary.spell(some))):
            raise self._failed(tokens.get_error() or spelled.get_error())

    def _closing_behind(self, matcher: LLMatcher, left_tokens: int) -> list[int] | None:
        """An end within `left_tokens`; mostly what is left of the one known before, at most all of it."""
        if left_tokens < 0:
            return None
        rest = rest_of_closing(matcher, self._closing)
        if rest is not None and self._fits(rest, left_tokens):
            return rest
        found = find_closing(matcher)
        return found if found is not None and self._fits(found, left_tokens) else None

    def _fits(self, closing: Sequence[int], left_tokens: int) -> bool:
        # No token spells less than a byte.
        return len(closing) <= left_tokens or len(self._vocabulary.read(closing)) <= left_tokens

    def _check(self) -> None:
        if self._tokens.is_error():
            raise self._failed(self._tokens.get_error())

    def _failed(self, problem: str) -> RequestError:
        self._grammar.broken = True
        return RequestError(
            Reason.ENGINE_FAILED,
            f"format: expected a grammar that can be followed, got: {' '.join(problem.split()):.300}. Simplify it.",
            numbers={"field": "format"},
        )
