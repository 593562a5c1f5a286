"""The sampler against its readable definition in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bise_daemon.engine.sampling import Choice, Sampler, SamplingParams, highest, kept
from bise_daemon.errors import Reason, RequestError

Float32 = NDArray[np.float32]

# Quarters: sums are exact, and ties are common.
logit_lists = st.lists(st.integers(-40, 40).map(lambda n: n / 4), min_size=1, max_size=40)
limits = st.fixed_dictionaries(
    {
        "temperature": st.sampled_from([0.25, 0.7, 1.0, 2.0]),
        "top_k": st.integers(0, 45),
        "top_p": st.sampled_from([0.05, 0.3, 0.5, 0.9, 0.999, 1.0]),
        "min_p": st.sampled_from([0.0, 0.01, 0.1, 0.6, 1.0]),
    }
)


def reference_kept(logits: list[float], params: SamplingParams) -> tuple[dict[int, float], float]:
    """Probabilities of the tokens kept, by id, and how near the choice was to another (0 is a coin's toss)."""
    order = sorted(range(len(logits)), key=lambda id_: (-logits[id_], id_))
    if params.top_k:
        order = order[: params.top_k]
    best = max(logits)
    weights = {id_: math.exp((logits[id_] - best) / params.temperature) for id_ in order}
    total, margin = sum(weights.values()), 1.0
    if params.top_p < 1:
        reached, nucleus = 0.0, []
        for id_ in order:
            nucleus.append(id_)
            reached += weights[id_]
            margin = min(margin, abs(reached / total - params.top_p))
            if reached >= params.top_p * total:
                break
        order = nucleus
    margin = min(
        [margin, *(abs(weights[id_] - params.min_p) for id_ in order if params.min_p not in (0, weights[id_]))]
    )
    order = [id_ for id_ in order if weights[id_] >= params.min_p]
    total = sum(weights[id_] for id_ in order)
    return {id_: weights[id_] / total for id_ in order}, margin


def reference_draw(probabilities: dict[int, float], uniform: float) -> tuple[int, float]:
    """The inverse of the cumulative distribution in the order of ids, and the margin of the choice."""
    reached, choice, margin = 0.0, None, 1.0
    for id_ in sorted(probabilities):
        reached += probabilities[id_]
        margin = min(margin, abs(reached - uniform))
        if choice is None and reached > uniform:
            choice = id_
    assert choice is not None
    return choice, margin


@given(logit_lists, limits)
def test_the_kept_tokens_and_their_probabilities_are_the_references(
    logits: list[float], options: dict[str, Any]
) -> None:
    params = SamplingParams(**options)
    expected, margin = reference_kept(logits, params)
    assume(margin > 1e-5)

    ids, weights = kept(np.array(logits, np.float32), max(logits), params)

    assert ids.tolist() == sorted(expected)
    np.testing.assert_allclose(weights / weights.sum(), [expected[id_] for id_ in sorted(expected)], rtol=1e-9)


@given(logit_lists, limits, st.integers(0, 2**64 - 1))
def test_the_token_drawn_is_the_references_for_the_same_uniform(
    logits: list[float], options: dict[str, Any], seed: int
) -> None:
    params = SamplingParams(**options, seed=seed)
    probabilities, kept_margin = reference_kept(logits, params)
    uniform = np.random.Generator(np.random.Philox(seed)).random()
    expected, draw_margin = reference_draw(probabilities, uniform)
    assume(min(kept_margin, draw_margin) > 1e-5)

    assert Sampler(params, []).sample(np.array(logits, np.float32)).token_id == expected


@pytest.mark.parametrize("vocab_size", [1, 511, 512, 513, 5000])
def test_drawing_from_a_whole_vocabulary_by_blocks_is_the_plain_inverse(vocab_size: int) -> None:
    random = np.random.default_rng(7)
    logits = random.normal(0, 3, vocab_size).astype(np.float32)
    sampler, uniforms = Sampler(SamplingParams(temperature=1.0, seed=3), []), np.random.Generator(np.random.Philox(3))
    weights = np.exp(logits.astype(np.float64))
    cumulative = (weights / weights.sum()).cumsum()

    for _ in range(50):
        assert sampler.sample(logits).token_id == np.searchsorted(cumulative, uniforms.random(), side="right")


def test_a_flat_nucleus_larger_than_the_first_looks_is_found_whole() -> None:
    logits = np.random.default_rng(1).normal(0, 0.1, 20_000).astype(np.float32)
    params = SamplingParams(temperature=1.0, top_p=0.9)
    expected, _ = reference_kept(logits.tolist(), params)

    ids, _ = kept(logits, float(logits.max()), params)

    assert abs(len(ids) - len(expected)) <= 1  # one token's probability is near the float32 error of the sum
    assert len(set(ids.tolist()) ^ set(expected)) <= 1


@given(logit_lists, st.integers(0, 40))
def test_highest_prefers_lower_ids_among_equals(logits: list[float], count: int) -> None:
    assume(count <= len(logits))
    order = sorted(range(len(logits)), key=lambda id_: (-logits[id_], id_))

    assert highest(np.array(logits, np.float32), count).tolist() == sorted(order[:count])


@given(
    logit_lists,
    st.lists(st.integers(0, 39), max_size=10),
    st.sampled_from([0.5, 1.0, 1.5]),
    st.sampled_from([0.0, 0.5, -1.0]),
    st.sampled_from([0.0, 0.25]),
    st.dictionaries(st.integers(0, 39), st.sampled_from([-5.0, 2.0]), max_size=3),
)
def test_greedy_with_penalties_and_biases_is_the_references(
    logits: list[float],
    prompt: list[int],
    repetition: float,
    presence: float,
    frequency: float,
    bias: dict[int, float],
) -> None:
    prompt = [id_ % len(logits) for id_ in prompt]
    bias = {id_ % len(logits): value for id_, value in bias.items()}
    params = SamplingParams(
        repetition_penalty=repetition, presence_penalty=presence, frequency_penalty=frequency, logit_bias=bias
    )
    sampler, answer = Sampler(params, prompt), list[int]()
    for _ in range(5):
        adjusted = []
        for id_, logit in enumerate(logits):
            if id_ in prompt or id_ in answer:
                logit = float(
                    np.float32(logit) / np.float32(repetition) if logit > 0 else np.float32(logit * repetition)
                )
            count = answer.count(id_)
            adjusted.append(logit - count * frequency - (count > 0) * presence + bias.get(id_, 0))
        best = sorted(adjusted)[::-1]
        assume(len(best) == 1 or best[0] == best[1] or best[0] - best[1] > 1e-4)

        answer.append(sampler.sample(np.array(logits, np.float32)).token_id)

        assert adjusted[answer[-1]] == pytest.approx(best[0], abs=1e-5)


def test_ties_go_to_the_lowest_id() -> None:
    assert Sampler(SamplingParams(), []).sample(np.array([1, 3, 3, 2], np.float32)) == Choice(1)


def test_the_same_seed_gives_the_same_tokens_whatever_other_requests_draw() -> None:
    logits = np.random.default_rng(5).normal(0, 2, (30, 100)).astype(np.float32)
    params = SamplingParams(temperature=1.0, top_p=0.95, seed=11)
    alone = Sampler(params, [])
    alone_ids = [alone.sample(row).token_id for row in logits]
    batched, neighbour = Sampler(params, []), Sampler(SamplingParams(temperature=1.0, seed=12), [])

    batched_ids, neighbour_ids = zip(
        *((batched.sample(row).token_id, neighbour.sample(row).token_id) for row in logits), strict=True
    )

    assert list(batched_ids) == alone_ids
    assert list(neighbour_ids) != alone_ids


def test_logprobs_are_of_the_models_own_distribution() -> None:
    logits = np.array([0, 2, 1, 2], np.float32)
    params = SamplingParams(temperature=0.5, logit_bias={0: 100.0}, logprobs=True, top_logprobs=3, seed=1)

    choice = Sampler(params, []).sample(logits)

    total = math.log(sum(math.exp(logit) for logit in logits))
    assert choice.token_id == 0
    assert choice.logprob == pytest.approx(0 - total, abs=1e-6)
    assert [id_ for id_, _ in choice.top] == [1, 3, 2]
    assert [logprob for _, logprob in choice.top] == pytest.approx([2 - total, 2 - total, 1 - total], abs=1e-6)


def test_logits_are_left_as_they_are() -> None:
    logits = np.array([1, 2, 3], np.float32)
    logits.flags.writeable = False
    params = SamplingParams(temperature=1, top_k=2, repetition_penalty=2, logit_bias={1: 1.0}, logprobs=True, seed=0)

    Sampler(params, [2]).sample(logits)


@pytest.mark.parametrize("temperature", [1e-45, 1e-6, 100.0])
def test_extreme_temperatures_are_sound(temperature: float) -> None:
    logits = np.array([-50, 0, 1e30, 10, -np.inf], np.float32)

    assert Sampler(SamplingParams(temperature=temperature, seed=1), []).sample(logits).token_id == 2
    assert Sampler(SamplingParams(temperature=temperature, top_p=0.5, seed=1), []).sample(logits).token_id == 2


@pytest.mark.parametrize("share", [0.0, 0.5, 1 - 2**-53])
@pytest.mark.parametrize("options", [{}, {"top_p": 0.99}, {"top_k": 3}])
def test_impossible_tokens_are_never_drawn(
    share: float, options: dict[str, Any], replace_uniform: Callable[..., None]
) -> None:
    logits = np.full(1024, -np.inf, np.float32)
    logits[[3, 600, 700]] = 1.0  # a total of 3: the largest uniform times 3 rounds to 3
    sampler = Sampler(SamplingParams(temperature=1.0, seed=1, **options), [])
    replace_uniform(sampler, share)

    assert sampler.sample(logits).token_id == {0.0: 3, 0.5: 600}.get(share, 700)


@pytest.fixture
def replace_uniform(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    class Fixed:
        def __init__(self, value: float) -> None:
            self.value = value

        def random(self) -> float:
            return self.value

    return lambda sampler, value: monkeypatch.setattr(sampler, "_random", Fixed(value))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("logits", [[1, math.nan, 2], [-math.inf, -math.inf], [1, math.inf]])
def test_logits_without_a_finite_maximum_fail_the_engine(logits: list[float], temperature: float) -> None:
    with pytest.raises(RequestError, match="expected finite logits") as failure:
        Sampler(SamplingParams(temperature=temperature, seed=0), []).sample(np.array(logits, np.float32))
    assert failure.value.reason is Reason.ENGINE_FAILED


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("temperature", {"temperature": -0.1}),
        ("temperature", {"temperature": math.nan}),
        ("temperature", {"temperature": math.inf}),
        ("top_p", {"top_p": 0.0}),
        ("top_p", {"top_p": 1.1}),
        ("top_k", {"top_k": -1}),
        ("min_p", {"min_p": 1.5}),
        ("repetition_penalty", {"repetition_penalty": 0.0}),
        ("presence_penalty", {"presence_penalty": math.inf}),
        ("frequency_penalty", {"frequency_penalty": math.nan}),
        ("seed", {"seed": -1}),
        ("seed", {"seed": 1 << 64}),
        ("top_logprobs", {"top_logprobs": 21, "logprobs": True}),
        ("top_logprobs", {"top_logprobs": 1}),
        ("logit_bias", {"logit_bias": {1: math.nan}}),
        ("logit_bias", {"logit_bias": {-1: 1.0}}),
        ("logit_bias", {"logit_bias": dict.fromkeys(range(1025), 1.0)}),
    ],
)
def test_options_out_of_range_are_refused_by_name(field: str, options: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=rf"{field}: expected .*, got ") as refusal:
        SamplingParams(**options)
    assert refusal.value.reason is Reason.INVALID_OPTION
    assert refusal.value.numbers["field"] == field


def test_a_bias_for_an_unknown_token_is_refused() -> None:
    params = SamplingParams(logit_bias={5: 1.0})
    params.check_vocabulary(6)

    with pytest.raises(RequestError, match="expected token ids below 5, got 5"):
        params.check_vocabulary(5)
    with pytest.raises(RequestError, match="expected token ids below 3, got 5"):
        Sampler(params, []).sample(np.zeros(3, np.float32))
