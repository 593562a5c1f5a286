"""Answers that may be anything, but whose calls are kept to a grammar."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bise_daemon.engine.guide import Course, Free, Guide
from bise_daemon.grammar.grammar import Grammar

_NO_END_TOKENS = 1 << 31


@dataclass(frozen=True, slots=True)
class BegunCalls:
    """A grammar of calls, for answers of which none need be made.

    Attributes:
        begins: the tokens a call begins with; each is the grammar's first.
    """

    grammar: Grammar
    begins: Set[int]
    shortest_tokens: int = 1

    def guide(self, max_tokens: int) -> CallGuide:
        """For one answer of at most so many tokens."""
        return CallGuide(self, max_tokens)


class CallGuide:
    """Leaves an answer free until a call begins, and keeps it to the grammar from there on.

    What is cut is not closed: nobody should run a call with arguments that a deadline made up.
    """

    closes = False

    def __init__(self, calls: BegunCalls, max_tokens: int) -> None:
        self._calls = calls
        self._left = max_tokens
        self._guide: Guide = Free()

    def allowed(self, vocab_size: int) -> NDArray[np.bool_] | None:
        return self._guide.allowed(vocab_size)

    def take(self, token: int) -> Course:
        if token in self._calls.begins and isinstance(self._guide, Free):
            self._guide = self._calls.grammar.guide(_NO_END_TOKENS)
        course = self._guide.take(token)
        fitting = course.tokens[: self._left]
        self._left -= len(fitting)
        return course if len(fitting) == len(course.tokens) else Course(fitting, forced=len(fitting) - 1)

    def close(self) -> Sequence[int]:
        return ()
