"""One answer: tokens in, text and the reason to stop out."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from itertools import cycle, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bise_daemon.engine.detokenize import ByteDetokenizer, StopMatcher
from bise_daemon.engine.generation import Generation, Piece
from bise_daemon.engine.runner import Logits
from bise_daemon.engine.sampling import Sampler, SamplingParams
from bise_daemon.errors import Reason, RequestError

EOS = 0


def generation(
    stops: Sequence[str] = (), eos: Set[int] = frozenset({EOS}), params: SamplingParams | None = None
) -> Generation:
    return Generation(
        Sampler(params or SamplingParams(), [1]), ByteDetokenizer(lambda token: bytes([token])), StopMatcher(stops), eos
    )


def feed(target: Generation, data: bytes) -> tuple[str, bool]:
    """Lets the generation choose these bytes one after the other, as long as it goes on; its text, and if it ended."""
    text = ""
    for byte in data:
        logits = np.zeros(256, np.float32)
        logits[byte] = 5
        growth = target.accept_all(logits[None])
        assert growth.tokens == [byte]
        text += growth.pieces[0].text
        if growth.stopped:
            return text, True
    return text, False


def test_text_comes_by_whole_characters() -> None:
    target = generation()
    assert feed(target, "né".encode()[:2]) == ("n", False)
    assert feed(target, "né".encode()[2:]) == ("é", False)
    assert target.finish() == Piece("")


def test_eos_adds_nothing() -> None:
    target = generation()
    logits = np.zeros(256, np.float32)
    logits[EOS] = 1
    growth = target.accept_all(logits[None])
    assert (growth.tokens, growth.stopped, growth.pieces) == ([EOS], True, [Piece("", None)])


def test_eos_can_be_ignored() -> None:
    assert feed(generation(eos=frozenset()), b"a\0b") == ("a\0b", False)


def test_a_stop_string_ends_it_and_nothing_is_left() -> None:
    target = generation(stops=["END"])
    assert feed(target, b"the END is near") == ("the ", True)
    assert target.stop_sequence == "END"
    assert target.finish() == Piece("")


def test_what_could_have_been_a_stop_string_comes_at_the_end() -> None:
    target = generation(stops=["END"])
    assert feed(target, b"the EN") == ("the ", False)
    assert target.finish() == Piece("EN")
    assert target.stop_sequence is None


def test_a_character_cut_short_can_complete_a_stop_string() -> None:
    target = generation(stops=["x\N{REPLACEMENT CHARACTER}"])
    assert feed(target, b"ax\xf0\x9f") == ("a", False)
    assert target.finish() == Piece("")
    assert target.stop_sequence == "x\N{REPLACEMENT CHARACTER}"


def test_logprobs_come_with_the_choice() -> None:
    logits = np.zeros(256, np.float32)
    growth = generation(eos=frozenset(), params=SamplingParams(logprobs=True)).accept_all(logits[None])
    choice = growth.pieces[0].choice
    assert choice is not None
    assert choice.logprob == pytest.approx(-np.log(256))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_no_numbers_are_an_error(value: float) -> None:
    with pytest.raises(RequestError) as refusal:
        generation().accept_all(np.full((1, 256), value, np.float32))
    assert refusal.value.reason is Reason.ENGINE_FAILED


VOCAB = 8
LETTERS = b"\0abcdxyz"
"""What the tokens of the small vocabulary add to the text; token 0 ends the answer."""
MOST = 20


def small(params: SamplingParams, stops: Sequence[str] = ()) -> Generation:
    detokenizer = ByteDetokenizer(lambda token: LETTERS[token : token + 1])
    return Generation(Sampler(params, [1, 2]), detokenizer, StopMatcher(stops), {EOS})


@dataclass(frozen=True)
class HashedModel:
    """Logits [VOCAB] that depend on every token before them, and on nothing else."""

    seed: int

    def after(self, tokens: Sequence[int]) -> Logits:
        logits = np.random.default_rng([self.seed, *tokens]).normal(scale=2, size=VOCAB).astype(np.float32)
        logits[EOS] -= 2  # answers of some length
        return logits


@dataclass(frozen=True)
class Answer:
    """All that an answer shows."""

    tokens: list[int]
    pieces: list[Piece]
    stopped: bool
    stop_sequence: str | None
    rest: str


def step_by_step(model: HashedModel, target: Generation) -> Answer:
    tokens: list[int] = []
    pieces: list[Piece] = []
    stopped = False
    while not stopped and len(tokens) < MOST:
        growth = target.accept_all(model.after(tokens)[None])
        stopped = growth.stopped
        tokens += growth.tokens
        pieces += growth.pieces
    return Answer(tokens, pieces, stopped, target.stop_sequence, target.finish().text)


def with_drafts(model: HashedModel, target: Generation, draft: Callable[[list[int]], list[int]], most: int) -> Answer:
    tokens: list[int] = []
    pieces: list[Piece] = []
    stopped = False
    while not stopped and len(tokens) < most:
        drafted = draft(tokens)[: most - len(tokens) - 1]
        rows = np.stack([model.after([*tokens, *drafted[:held]]) for held in range(len(drafted) + 1)])
        growth = target.accept_all(rows, drafted)
        stopped = growth.stopped
        assert 1 <= len(growth.tokens) == len(growth.pieces) == growth.held + 1 <= len(drafted) + 1
        tokens += growth.tokens
        pieces += growth.pieces
    return Answer(tokens, pieces, stopped, target.stop_sequence, target.finish().text)


params = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.0, 0.7, 1.5]),
    top_p=st.sampled_from([1.0, 0.8]),
    top_k=st.sampled_from([0, 3]),
    repetition_penalty=st.sampled_from([1.0, 1.3]),
    presence_penalty=st.sampled_from([0.0, 0.5]),
    frequency_penalty=st.sampled_from([0.0, 0.9]),
    seed=st.integers(0, 2**64 - 1),
    logprobs=st.just(True),
    top_logprobs=st.integers(0, 3),
)


@pytest.mark.slow
@given(
    st.builds(HashedModel, st.integers(0, 2**32)),
    params,
    st.lists(st.text("abcdxyz", min_size=1, max_size=3), max_size=2),
    st.lists(st.tuples(st.integers(0, 5), st.none() | st.integers(0, VOCAB - 1)), min_size=1, max_size=6),
)
def test_drafts_change_nothing_but_the_number_of_steps(
    model: HashedModel, params: SamplingParams, stops: list[str], guesses: list[tuple[int, int | None]]
) -> None:
    """Each draft is right for some tokens (past the end of the answer, any), and then goes on wrong, or stops."""
    plain = step_by_step(model, small(params, stops))
    turns = cycle(guesses)

    def draft(tokens: list[int]) -> list[int]:
        right, wrong = next(turns)
        truth = [*plain.tokens, *[1] * 5][len(tokens) : len(tokens) + right]
        return truth if wrong is None else [*truth, wrong, wrong]

    assert with_drafts(model, small(params, stops), draft, MOST) == plain


def test_what_holds_of_a_draft_is_taken_and_one_token_more() -> None:
    rows = np.full((4, 256), -1, np.float32)
    rows[range(4), list(b"none")] = 5
    growth = generation().accept_all(rows, list(b"not"))
    assert bytes(growth.tokens) == b"non"
    assert not growth.stopped
    assert [piece.text for piece in growth.pieces] == ["n", "o", "n"]


@pytest.mark.parametrize(("text", "taken"), [(b"a.bc", b"a."), (b"a\0bc", b"a\0")])
def test_nothing_of_a_draft_is_taken_past_the_end(text: bytes, taken: bytes) -> None:
    rows = np.full((4, 256), -1, np.float32)
    rows[range(4), list(text)] = 5
    growth = generation(stops=["."]).accept_all(rows, list(text[:3]))
    assert (bytes(growth.tokens), growth.stopped) == (taken, True)
    assert "".join(piece.text for piece in growth.pieces) == "a"


def test_logits_nobody_needs_may_be_anything() -> None:
    rows = np.full((2, 256), np.nan, np.float32)
    rows[0] = 0
    assert generation(eos=frozenset()).accept_all(rows, [9]).tokens == [0]


@pytest.mark.slow
def test_a_draft_does_not_change_the_distribution() -> None:
    """Pearson's test of the first two tokens of 3,000 answers, against their probabilities; one draft of each length.

    With 63 degrees of freedom, chance alone gives more than 103.4 once in a thousand; the seeds are fixed.
    """
    model, answers = HashedModel(3), 3000
    weights = {pair: softmax(model.after([]))[pair[0]] * softmax(model.after(pair[:1]))[pair[1]] for pair in PAIRS}
    counts = dict.fromkeys(PAIRS, 0)
    likely = int(model.after([]).argmax())
    for seed in range(answers):
        target = Generation(
            Sampler(SamplingParams(temperature=1, seed=seed), []),
            ByteDetokenizer(lambda _: b""),
            StopMatcher([]),
            set(),
        )
        first, second = with_drafts(model, target, lambda _: [likely], 2).tokens
        counts[first, second] += 1
    assert sum(weights.values()) == pytest.approx(1, rel=1e-5)
    deviation = sum((counts[pair] - answers * share) ** 2 / (answers * share) for pair, share in weights.items())
    assert deviation < 103.4


PAIRS = list(product(range(VOCAB), repeat=2))


def softmax(logits: Logits) -> NDArray[np.float64]:
    weights = np.exp(logits.astype(np.float64))
    return weights / weights.sum()
