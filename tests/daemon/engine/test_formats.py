"""Answers that keep to something, on a scripted model: what is dictated, closed, or goes wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from bise_daemon.engine.events import Finish
from bise_daemon.engine.guide import Course
from bise_daemon.errors import Reason, RequestError
from scripted_engine import Rig, answer

MakeRig = Callable[..., Rig]
PROMPT = [5, 6, 7]


class Dictation:
    """Leaves the model a choice every so many tokens, and dictates between them what it would have said.

    Attributes:
        closing: what makes an answer whole.
        breaks_after: tokens until it can't be followed any more.
    """

    closes = True

    def __init__(
        self,
        prompt: Sequence[int] = PROMPT,
        every: int = 4,
        closing: Sequence[int] = (9, 9),
        breaks_after: int = 1000,
        closes_after: int = 1000,
    ) -> None:
        self._text = answer(prompt, 200)
        self._said = 0
        self._every = every
        self.closing = closing
        self._breaks_after = breaks_after
        self._closes_after = closes_after

    def allowed(self, vocab_size: int) -> NDArray[np.bool_]:
        allowed = np.zeros(vocab_size, np.bool_)
        allowed[[self._text[self._said], 1]] = True
        return allowed

    def take(self, token: int) -> Course:
        assert token == self._text[self._said]
        if self._said >= self._breaks_after:
            raise RequestError(Reason.ENGINE_FAILED, "the grammar broke")
        if self._said >= self._closes_after:
            return Course(self.closing, ends=True, closed_early=True)
        tokens = self._text[self._said : self._said + self._every]
        self._said += len(tokens)
        return Course(tokens, forced=len(tokens) - 1)

    def close(self) -> Sequence[int]:
        return self.closing


@pytest.mark.parametrize("draft_tokens", [0, 3])
@pytest.mark.parametrize("known_tokens", [1, 2, 16])
def test_what_is_dictated_changes_the_steps_and_not_the_answer(
    known_tokens: int, draft_tokens: int, make_rig: MakeRig
) -> None:
    rig = make_rig(known_tokens=known_tokens, draft_tokens=draft_tokens)
    rig.start()
    rig.submit("a", PROMPT, 12, guide=Dictation())
    assert rig.tokens("a") == answer(PROMPT, 12)
    assert rig.finished("a").forced_tokens == 9
    steps = [kind for kind, _ in rig.runner.steps]
    # A prompt and two times four tokens that nobody has run: the last sampled one, and three dictated ones.
    assert len(steps) <= {1: 9, 2: 5, 16: 3}[known_tokens]


def test_beside_others_they_are_run_with_them_and_everybody_says_what_they_say_alone(make_rig: MakeRig) -> None:
    rig = make_rig(slots=3, known_tokens=16)
    rig.submit("a", PROMPT, 12, guide=Dictation())
    rig.submit("b", [8, 9], 15)
    rig.submit("c", [3], 9, guide=Dictation([3], every=3))
    rig.start()
    assert rig.tokens("a") == answer(PROMPT, 12)
    assert rig.tokens("b") == answer([8, 9], 15)
    assert rig.tokens("c") == answer([3], 9)


def test_only_what_is_allowed_is_said(make_rig: MakeRig) -> None:
    class OnlyOnes(Dictation):
        def allowed(self, vocab_size: int) -> NDArray[np.bool_]:
            return np.arange(vocab_size) == 1

        def take(self, token: int) -> Course:
            return Course([token])

    rig = make_rig()
    rig.start()
    rig.submit("a", PROMPT, 3, guide=OnlyOnes())
    assert rig.tokens("a") == [1, 1, 1]


def test_an_answer_that_is_closed_ends_by_its_length_though_tokens_are_left(make_rig: MakeRig) -> None:
    rig = make_rig()
    rig.start()
    rig.submit("a", PROMPT, 20, guide=Dictation(closes_after=8))
    assert rig.tokens("a") == [*answer(PROMPT, 8), 9, 9]
    finished = rig.finished("a")
    assert (finished.finish, finished.closed_early, finished.completion_tokens) == (Finish.LENGTH, True, 10)


def test_at_the_deadline_an_answer_is_closed_without_another_step(make_rig: MakeRig) -> None:
    rig = make_rig()

    def late() -> None:
        rig.clock.now += 100

    rig.runner.on_step[3] = late
    rig.submit("a", PROMPT, 20, deadline_ms=rig.clock.now + 50, guide=Dictation(every=1))
    rig.start()
    said = rig.tokens("a")
    assert said[-2:] == [9, 9]
    assert said[:-2] == answer(PROMPT, len(said) - 2)
    finished = rig.finished("a")
    assert (finished.finish, finished.closed_early) == (Finish.DEADLINE, True)
    assert finished.completion_tokens == len(said)
    assert len(rig.runner.steps) == 4


def test_who_never_got_a_turn_gets_the_shortest_answer(make_rig: MakeRig) -> None:
    rig = make_rig()
    rig.submit("a", PROMPT, 20, deadline_ms=rig.clock.now - 1, guide=Dictation())
    rig.start()
    assert rig.tokens("a") == [9, 9]
    assert rig.finished("a").finish is Finish.DEADLINE


def test_without_a_format_nothing_is_closed(make_rig: MakeRig) -> None:
    rig = make_rig()
    rig.start()
    rig.submit("a", PROMPT, 3)
    assert rig.finished("a").closed_early is False
    rig.submit("b", PROMPT, 3, deadline_ms=rig.clock.now - 1)
    assert rig.tokens("b") == []


def test_a_grammar_that_breaks_ends_its_own_answer_only(make_rig: MakeRig) -> None:
    rig = make_rig(slots=2)
    rig.submit("a", PROMPT, 20, guide=Dictation(every=1, breaks_after=3))
    rig.submit("b", [8, 9], 12)
    rig.start()
    assert rig.failed("a").error.message == "the grammar broke"
    assert rig.tokens("b") == answer([8, 9], 12)
