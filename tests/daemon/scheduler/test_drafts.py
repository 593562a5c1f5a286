"""Drafts: what they guess, how long they are, and what they are worth in virtual time."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import pytest

from bise_daemon.scheduler.drafts import Drafter


@dataclass(frozen=True)
class MeasuredCosts:
    """Step times by tokens in the step, with straight lines between them; context is free."""

    step_ms: Mapping[int, float]
    margin: float = 1.2

    def prefill_ms(self, tokens: int, context_tokens: int) -> float:
        for (fewer, low_ms), (more, high_ms) in pairwise(sorted(self.step_ms.items())):
            if fewer <= tokens <= more:
                return low_ms + (high_ms - low_ms) * (tokens - fewer) / (more - fewer)
        raise AssertionError(f"nobody measured a step of {tokens} tokens")

    verify_ms = decode_ms = prefill_ms

    def mixed_ms(self, tokens: int, context_tokens: int, rows: int, rows_context_tokens: int) -> float:
        return self.prefill_ms(tokens + rows, context_tokens)

    def copy_ms(self, tokens: int) -> float:
        raise AssertionError("drafts copy nothing")


SMALL = MeasuredCosts({1: 4.8, 2: 5.0, 4: 6.3, 8: 9.5, 16: 15})
"""SmolLM2-135M, int4, on two cores with AVX-512."""
LARGE = MeasuredCosts({1: 29, 2: 32, 4: 56, 8: 110, 16: 220})
"""A 1.2B model on two cores with AVX2: bound by arithmetic from the third token on."""
FREE = MeasuredCosts({1: 10, 16: 10})
"""A device that waits for memory alone."""
USELESS = MeasuredCosts({1: 10, 16: 160})
"""A device that gains nothing from several tokens at once."""

REPEATING = [*range(100, 120)] * 3


@pytest.mark.parametrize(
    ("tokens", "most", "expected"),
    [
        pytest.param([1, 2, 3], 4, [], id="nothing occurred before"),
        pytest.param([1], 4, [], id="a single token"),
        pytest.param([7, 8, 9, 7], 2, [8, 9], id="one token agrees"),
        pytest.param([7, 8, 9, 7], 9, [8, 9, 7], id="never past the end"),
        pytest.param([7, 8, 9, 7], 0, [], id="none wanted"),
        pytest.param([1, 2, 3, 5, 2, 4, 1, 2], 1, [3], id="a longer match beats a later one"),
        pytest.param([1, 2, 3, 1, 2, 4, 1, 2], 1, [4], id="of equals the latest"),
        pytest.param([6, 6, 6, 6], 3, [6], id="an occurrence may overlap the end"),
        pytest.param([1, 2, 0x300, 0x100, 0x20000, 0x30001], 3, [], id="no match across the bytes of tokens"),
    ],
)
def test_a_draft_continues_the_last_place_that_reads_like_the_end(
    tokens: Sequence[int], most: int, expected: Sequence[int]
) -> None:
    drafter = Drafter(tokens)
    assert drafter.draft(most) == expected
    grown = Drafter(tokens[:1])
    grown.extend(tokens[1:])
    assert grown.draft(most) == expected


def test_nothing_to_guess_is_no_draft() -> None:
    assert Drafter([1, 2, 3]).length(FREE, 2, 100) == 0


@pytest.mark.parametrize(
    ("most", "size"), [(0, 0), (1, 1), (2, 1), (3, 3), (6, 3), (7, 7), (14, 7), (15, 15), (99, 15)]
)
def test_a_draft_has_one_of_few_sizes_and_never_more_than_allowed(most: int, size: int) -> None:
    drafter = Drafter(REPEATING)
    assert drafter.length(FREE, 60, most) == size
    assert len(drafter.draft(size)) == size


def test_a_draft_is_no_longer_than_what_is_there_to_guess() -> None:
    assert Drafter([1, 2, 3, 4, 5, 1, 2]).length(FREE, 6, 100) == 3


def test_where_tokens_cost_the_same_together_nothing_is_drafted() -> None:
    assert Drafter(REPEATING).length(USELESS, 60, 100) == 0


def test_a_draft_waits_until_it_is_affordable() -> None:
    """Two tokens at once cost 0.2 ms more than one; each token decoded allows 0.096 ms (2 %)."""
    drafter, lengths = Drafter(REPEATING), []
    for token in REPEATING[:4]:
        lengths.append(drafter.length(SMALL, 60, 100))
        drafter.extend([token])
    assert lengths == [0, 0, 0, 1]


def test_what_drafts_win_pays_for_longer_ones_and_what_they_lose_for_none() -> None:
    def after(accepted: int) -> int:
        drafter = Drafter(REPEATING)
        for _ in range(3):
            drafter.length(SMALL, 60, 100)
            drafter.extend(drafter.draft(1))
        assert drafter.length(SMALL, 60, 100) == 1
        drafter.observe(1, accepted)
        return drafter.length(SMALL, 60, 100)

    assert after(accepted=1) == 7
    assert after(accepted=0) == 0


def test_a_request_whose_guesses_fail_learns_it_without_paying() -> None:
    """After a token, another one follows each time: the guess is always wrong, and is soon not made any more."""
    stream = [token for other in range(200, 300) for token in (1, other)]
    drafted = [length for length, _ in drafts([1, 199], stream, SMALL)]
    assert sum(drafted) <= 10
    assert not any(drafted[-100:])


def test_a_request_whose_guesses_hold_learns_that_they_do() -> None:
    """Eight tokens take six times as long as one: worth it only for guesses that hold more often than at first."""
    costs = MeasuredCosts({1: 10, 2: 20, 4: 39, 8: 60, 16: 200})
    period = [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert 7 in [length for length, _ in drafts(period, period * 40, costs)]


def test_a_guess_is_worth_more_when_those_before_it_held() -> None:
    """Two tokens agree: guesses that all hold as often as the first does would not be worth four tokens' time."""
    drafter, costs = Drafter([1, 2, 3, 4, 5, 6]), MeasuredCosts({1: 10, 2: 13, 4: 14, 8: 160, 16: 400})
    for token in range(100, 120):
        assert drafter.length(costs, 10, 100) == 0
        drafter.extend([token])
    drafter.extend([1, 2])
    assert drafter.length(costs, 10, 100) == 3


def drafts(prompt: Sequence[int], answer: Sequence[int], costs: MeasuredCosts) -> Iterator[tuple[int, int]]:
    """How much was drafted in each step of an answer, and how much of it held."""
    drafter, done = Drafter(prompt), 1
    drafter.extend(answer[:1])
    while done < len(answer):
        length = drafter.length(costs, len(prompt) + done - 1, len(answer) - done - 1)
        guesses = drafter.draft(length)
        accepted = 0
        while accepted < length and guesses[accepted] == answer[done + accepted]:
            accepted += 1
        drafter.extend(answer[done : done + accepted + 1])
        drafter.observe(length, accepted)
        done += accepted + 1
        yield length, accepted


def speed_up(prompt: Sequence[int], answer: Sequence[int], costs: MeasuredCosts) -> float:
    """Time of plain decoding over time with drafts."""
    took_ms = sum(costs.verify_ms(length + 1, 0) for length, _ in drafts(prompt, answer, costs))
    return (len(answer) - 1) * costs.decode_ms(1, 0) / took_ms


def prose(seed: int, tokens: int) -> list[int]:
    """Words of a vocabulary of 5,000, as rare as in a language (Zipf), in no order."""
    random_ = random.Random(seed)
    return random_.choices(range(5000), [1 / (rank + 1) for rank in range(5000)], k=tokens)


def edited(text: Sequence[int], seed: int) -> list[int]:
    """A copy in which every 15th token or so was replaced, dropped or followed by new ones."""
    random_ = random.Random(seed)
    edits = ([], [7001], [7002, 7003, 7004])
    return [token for old in text for token in ([old] if random_.random() > 1 / 15 else [*random_.choice(edits)])]


@pytest.mark.parametrize(("costs", "bar"), [(SMALL, 2.0), (LARGE, 1.3), (FREE, 2.5)])
@pytest.mark.parametrize("seed", range(3))
def test_an_edit_of_a_given_text_is_faster(costs: MeasuredCosts, bar: float, seed: int) -> None:
    text = prose(seed, 400)
    assert speed_up(text, edited(text, seed), costs) >= bar


@pytest.mark.parametrize("costs", [SMALL, LARGE, FREE, USELESS])
@pytest.mark.parametrize("seed", range(3))
def test_an_answer_that_copies_nothing_is_not_slower(costs: MeasuredCosts, seed: int) -> None:
    assert speed_up(prose(seed, 200), prose(seed + 10, 400), costs) >= 0.98
