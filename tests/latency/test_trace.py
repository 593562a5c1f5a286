"""The trace: bounded, repeatable, and of the lengths it promises."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.latency.prose import prose
from bench.latency.shapes import SHAPES, Budget
from bench.latency.trace import Call, Encode, arrivals_ms, beginnings, calls, drafts, variants

SMALL = [shape.scaled(1 / 50) for shape in SHAPES]


def words(texts: Sequence[str]) -> list[list[int]]:
    """A tokenizer: each word a token, the same word the same token."""
    return [[hash(word) for word in text.split()] for text in texts]


def trace(count: int, seed: str = "seed", encode: Encode = words) -> list[Call]:
    asked = drafts(SMALL, count, seed)
    budgets = {draft.variant: Budget(1, 1, 1) for draft in asked}
    return calls(asked, arrivals_ms(count, 10, 1e9, seed), encode, budgets)


def test_the_same_seed_gives_the_same_trace() -> None:
    assert trace(40) == trace(40)
    assert trace(40) != trace(40, "another")


@given(st.integers(0, 200), st.floats(0, 3000))
def test_arrivals_are_bounded_in_count_and_time(count: int, longest_ms: float) -> None:
    times = arrivals_ms(count, 10, longest_ms, "seed")
    assert len(times) <= count
    assert times == sorted(times)
    assert all(0 < time <= longest_ms for time in times)


def test_arrivals_are_poisson() -> None:
    times = arrivals_ms(5000, 10, 1e9, "seed")
    gaps = [after - before for before, after in pairwise(times)]
    assert statistics.fmean(gaps) == pytest.approx(10, rel=0.05)
    assert statistics.stdev(gaps) == pytest.approx(10, rel=0.05)


def test_another_load_is_the_same_trace_on_another_scale() -> None:
    slow, fast = arrivals_ms(20, 40, 1e9, "seed"), arrivals_ms(20, 10, 1e9, "seed")
    assert [time / 4 for time in slow] == pytest.approx(fast)


def test_lengths_are_the_shapes_own() -> None:
    by_name = {shape.name: shape for shape in SMALL}
    for call in trace(60):
        assert len(call.prompt) == by_name[call.shape].prompt_tokens(call.turn)
        assert call.answer_tokens == by_name[call.shape].answer_tokens


def test_shapes_come_by_weight() -> None:
    found = Counter(draft.shape.name for draft in drafts(SMALL, 4000, "seed"))
    for shape in SMALL:
        assert found[shape.name] / 4000 == pytest.approx(shape.weight, abs=0.03)


def test_a_system_prompt_is_shared_and_questions_are_not() -> None:
    shape = SMALL[0]
    first, second = [call for call in trace(60) if call.shape == shape.name][:2]
    assert first.prompt[: shape.shared_tokens] == second.prompt[: shape.shared_tokens]
    assert first.prompt != second.prompt


def test_each_turn_repeats_the_ones_before_it() -> None:
    chat = [call for call in trace(200) if call.shape == SMALL[-1].name]
    later = [call for call in chat if call.turn]
    assert len(later) > 5
    for call in later:
        before = [one for one in chat if one.turn == call.turn - 1 and one.at_ms < call.at_ms]
        assert any(call.prompt[: len(one.prompt)] == one.prompt for one in before)


def test_a_perfect_cache_holds_what_came_before() -> None:
    asked, sent = drafts(SMALL, 60, "seed"), trace(60)
    found = beginnings(asked)
    for number, (shared, call) in enumerate(zip(found, sent, strict=True)):
        assert [each.tokens for each in shared] == sorted((each.tokens for each in shared), reverse=True)
        for each in shared:
            assert 0 < each.tokens < len(call.prompt)
            assert all(one < number for one in each.held_by)
            assert all(sent[one].prompt[: each.tokens] == call.prompt[: each.tokens] for one in each.held_by)
    assert max(each.tokens for shared in found for each in shared) >= SMALL[-1].prompt_tokens(1)


def test_variants_share_nothing() -> None:
    found = list(variants(SMALL, "solo"))
    assert [draft.variant for draft in found][-3:] == [(SMALL[-1].name, turn) for turn in range(3)]
    assert len({draft.segments for draft in found}) == len(found)
    assert not any(beginnings(found))


def test_a_tokenizer_that_gives_too_little_is_an_error() -> None:
    with pytest.raises(ValueError, match="tokens or more, got 1"):
        trace(1, encode=lambda texts: [[1] for _ in texts])


@given(st.text(max_size=20), st.integers(1, 300))
def test_prose_has_the_words_asked_for(key: str, count: int) -> None:
    assert len(prose(key, count).split()) >= count
    assert prose(key, count) == prose(key, count)
