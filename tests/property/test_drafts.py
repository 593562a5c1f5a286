"""Whatever a request says and whatever steps cost: drafts are what they should be, and never cost more than allowed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bise_daemon.scheduler.drafts import Drafter

CLASSES = (1, 2, 3, 4, 8, 16)
"""Of matching tokens: a longer match within a class does not count as longer."""

texts = st.lists(st.integers(0, 3), min_size=1, max_size=60) | st.builds(
    lambda part, times, tail: part * times + tail,
    st.lists(st.integers(0, 5), min_size=1, max_size=20),
    st.integers(1, 5),
    st.lists(st.integers(0, 5), max_size=3),
)


@dataclass(frozen=True)
class AnyCosts:
    """Step times that grow with tokens and context, by whatever amounts."""

    more_ms: Sequence[float]
    context_ms: float
    margin: float = 1.0

    def prefill_ms(self, tokens: int, context_tokens: int) -> float:
        return sum(self.more_ms[:tokens]) + self.context_ms * context_tokens

    verify_ms = decode_ms = prefill_ms

    def mixed_ms(self, tokens: int, context_tokens: int, rows: int, rows_context_tokens: int) -> float:
        return self.prefill_ms(tokens + rows, context_tokens)

    def copy_ms(self, tokens: int) -> float:
        raise AssertionError("drafts copy nothing")


costs = st.builds(
    AnyCosts,
    st.lists(st.floats(0, 10), min_size=16, max_size=16).filter(lambda more: more[0] > 0.1),
    st.floats(0, 0.1),
)


def expected_draft(text: Sequence[int], most: int) -> list[int]:
    """The definition, by trying everything."""
    for length in reversed(CLASSES):
        for end in range(len(text) - 1, length - 1, -1):
            if length <= len(text) and text[end - length : end] == text[len(text) - length :]:
                return list(text[end : end + most])
    return []


@pytest.mark.slow
@given(texts, st.integers(0, 20), st.integers(1, 60))
def test_a_draft_continues_the_last_of_the_longest_matches(text: list[int], most: int, known: int) -> None:
    drafter = Drafter(text[:known])
    drafter.extend(text[known:])
    assert drafter.draft(most) == expected_draft(text, most)


@pytest.mark.slow
@given(texts, texts, costs)
def test_tokens_together_or_one_by_one_are_the_same(prompt: list[int], answer: list[int], costs: AnyCosts) -> None:
    together, single = Drafter(prompt), Drafter(prompt)
    together.extend(answer)
    for token in answer:
        single.extend([token])
    assert together.draft(20) == single.draft(20)
    assert together.length(costs, 10, 20) == single.length(costs, 10, 20)


@pytest.mark.slow
@given(texts, st.lists(st.integers(0, 5) | st.none(), min_size=1, max_size=80), costs, st.integers(0, 20))
def test_no_answer_is_ever_more_than_two_percent_late(
    prompt: list[int], answer: list[int | None], costs: AnyCosts, most: int
) -> None:
    """The answer may be as mean as it likes: None is the token that was guessed, so that it can agree and then not."""
    drafter, took_ms, plain_ms, said = Drafter(prompt), 0.0, 0.0, list(prompt)
    done = 0
    while done < len(answer):
        context = len(said) - 1
        length = drafter.length(costs, context, min(most, len(answer) - done - 1))
        assert 0 <= length <= min(most, len(answer) - done - 1)
        guesses = drafter.draft(length)
        assert len(guesses) == length
        sampled: list[int] = []
        for guess, token in zip([*guesses, None], answer[done:], strict=False):
            sampled.append(token if token is not None else guess if guess is not None else 0)
            if sampled[-1] != guess:
                break
        took_ms += costs.verify_ms(length + 1, context) if length else costs.decode_ms(1, context)
        plain_ms += sum(costs.decode_ms(1, context + place) for place in range(len(sampled)))
        assert took_ms <= plain_ms * 1.02 + 1e-6
        drafter.extend(sampled)
        drafter.observe(length, len(sampled) - 1)
        said += sampled
        done += len(sampled)
