"""From logits to the next token.

The order of operations, each off by default: penalties, bias, a format's mask, temperature, top-k, top-p, min-p, one
draw. Log probabilities are of the model's own distribution, before any of it. Greedy decoding is an argmax, and the
vocabulary is sorted only where top-p needs more of it than any sharp distribution would.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bise_daemon.engine.guide import among
from bise_daemon.errors import Reason, RequestError

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Ids = NDArray[np.intp]

MAX_TOP_LOGPROBS = 20
MAX_BIASES = 1024

_NUCLEUS_SIZES = (256, 8192)  # tokens that top-p tries to do with before it looks at all
_BLOCK = 512  # tokens summed at once before a draw from the whole vocabulary


@dataclass(frozen=True, slots=True)
class _Range:
    low: float
    high: float
    low_open: bool = False

    def __contains__(self, value: float) -> bool:
        return (self.low < value if self.low_open else self.low <= value) and value <= self.high

    def __str__(self) -> str:
        return (
            f"{'more than' if self.low_open else 'from'} {self.low:g} {'up ' if self.low_open else ''}to {self.high:g}"
        )


_RANGES = {
    "temperature": _Range(0, 100),
    "top_p": _Range(0, 1, low_open=True),
    "top_k": _Range(0, 2**31),
    "min_p": _Range(0, 1),
    "repetition_penalty": _Range(0, 100, low_open=True),
    "presence_penalty": _Range(-100, 100),
    "frequency_penalty": _Range(-100, 100),
    "top_logprobs": _Range(0, MAX_TOP_LOGPROBS),
}
_BIAS_RANGE = _Range(-1e9, 1e9)
_SEED_RANGE = range(1 << 64)


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How one request's tokens are chosen.

    Attributes:
        temperature: divides logits; 0 is greedy.
        top_p: keep the smallest set of most likely tokens whose probability reaches this; 1 is off.
        top_k: keep this many most likely tokens; 0 is off.
        min_p: keep tokens at least this share as likely as the best; 0 is off.
        repetition_penalty: divides positive and multiplies negative logits of tokens in prompt or answer; 1 is off.
        presence_penalty: subtracted once from logits of tokens in the answer.
        frequency_penalty: subtracted for each time a token is in the answer.
        seed: of the request's own random numbers; None is a different one each time.
        logit_bias: added to logits, by token id.
        logprobs: choices carry the token's log probability.
        top_logprobs: and so many of the most likely alternatives.

    Raises:
        RequestError: INVALID_OPTION, naming the field, its range and the value.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    logprobs: bool = False
    top_logprobs: int = 0

    def __post_init__(self) -> None:
        for name, allowed in _RANGES.items():
            if (value := getattr(self, name)) not in allowed:
                raise _invalid(name, f"expected {allowed}, got {value}")
        if self.seed is not None and self.seed not in _SEED_RANGE:
            raise _invalid("seed", f"expected from 0 to 2**64 - 1, got {self.seed}")
        if self.top_logprobs and not self.logprobs:
            raise _invalid("top_logprobs", f"expected 0 without logprobs, got {self.top_logprobs}")
        if len(self.logit_bias) > MAX_BIASES:
            raise _invalid("logit_bias", f"expected at most {MAX_BIASES} tokens, got {len(self.logit_bias)}")
        for token_id, bias in self.logit_bias.items():
            if token_id < 0 or bias not in _BIAS_RANGE:
                raise _invalid("logit_bias", f"expected ids from 0 and biases {_BIAS_RANGE}, got {token_id}: {bias}")

    def check_vocabulary(self, vocab_size: int) -> None:
        """Proves that biased tokens exist.

        Raises:
            RequestError: INVALID_OPTION, a token id is not below `vocab_size`.
        """
        if (highest := max(self.logit_bias, default=-1)) >= vocab_size:
            raise _invalid("logit_bias", f"expected token ids below {vocab_size}, got {highest}")


@dataclass(frozen=True, slots=True)
class Choice:
    """A chosen token.

    Attributes:
        token_id: the token.
        logprob: its log probability under the model (natural logarithm); None unless asked for.
        top: the most likely tokens and their log probabilities, best first.
    """

    token_id: int
    logprob: float | None = None
    top: list[tuple[int, float]] = field(default_factory=list)


class Sampler:
    """Chooses one request's tokens, one after the other.

    It draws one number per token from a generator of its own, so the same seed and the same logits give the same
    tokens, whatever else is in the batch. Of equal logits, the lowest token id counts as the more likely.
    """

    def __init__(self, params: SamplingParams, prompt_ids: Sequence[int]) -> None:
        """
        Args:
            params: how to choose.
            prompt_ids: the prompt's tokens, for the repetition penalty.
        """
        self._params = params
        self._random = np.random.Generator(np.random.Philox(params.seed)) if params.temperature > 0 else None
        self._counts: dict[int, int] = {}  # of the tokens in the answer
        self._seen: dict[int, None] = dict.fromkeys(prompt_ids) if params.repetition_penalty != 1 else {}
        self._bias_ids = np.fromiter(params.logit_bias, np.intp, len(params.logit_bias))
        self._bias = np.fromiter(params.logit_bias.values(), np.float32, len(params.logit_bias))
        self._penalizes_answer = params.presence_penalty != 0 or params.frequency_penalty != 0
        self._adjusts = bool(params.repetition_penalty != 1 or self._penalizes_answer or params.logit_bias)

    def sample(self, logits: Float32, allowed: NDArray[np.bool_] | None = None) -> Choice:
        """Chooses the next token and remembers it.

        Args:
            logits: float32 [vocab], left as they are.
            allowed: bool [vocab], tokens to choose from; None is all.

        Raises:
            RequestError: ENGINE_FAILED, the logits hold NaN or no finite maximum.
        """
        adjusted = among(self._adjust(logits) if self._adjusts else logits, allowed)
        best = int(adjusted.argmax())  # the first of equals; NaN if there is one
        if not math.isfinite(adjusted[best]):
            raise RequestError(
                Reason.ENGINE_FAILED,
                f"expected finite logits from the model, got {adjusted[best]} for token {best}. "
                "The model or its quantization is broken: run `bise verify` on the bundle.",
                numbers={"token_id": best},
            )
        token_id = best if self._random is None else self._draw(adjusted, float(adjusted[best]), self._random.random())
        self.remember(token_id)
        if not self._params.logprobs:
            return Choice(token_id)
        log_total = _log_total(logits)
        top = highest(logits, min(self._params.top_logprobs, logits.size))
        top = top[np.argsort(-logits[top], kind="stable")]
        return Choice(
            token_id, float(logits[token_id]) - log_total, [(int(id_), float(logits[id_]) - log_total) for id_ in top]
        )

    def remember(self, token_id: int) -> None:
        """Takes in a token of the answer that was not chosen here."""
        if self._penalizes_answer:
            self._counts[token_id] = self._counts.get(token_id, 0) + 1
        if self._params.repetition_penalty != 1:
            self._seen[token_id] = None

    def _adjust(self, logits: Float32) -> Float32:
        """A copy of `logits` with penalties and biases, which touch few tokens each."""
        params, adjusted = self._params, logits.copy()
        if self._seen:
            ids = np.fromiter(self._seen, np.intp, len(self._seen))
            seen = adjusted[ids]
            penalty = np.float32(params.repetition_penalty)
            adjusted[ids] = np.where(seen > 0, seen / penalty, seen * penalty)
        if self._counts:
            ids = np.fromiter(self._counts, np.intp, len(self._counts))
            counts = np.fromiter(self._counts.values(), np.float32, len(self._counts))
            adjusted[ids] -= counts * np.float32(params.frequency_penalty) + np.float32(params.presence_penalty)
        params.check_vocabulary(logits.size)
        adjusted[self._bias_ids] += self._bias
        return adjusted

    def _draw(self, logits: Float32, best: float, uniform: float) -> int:
        """The token where the kept tokens' cumulative probability, in the order of their ids, passes `uniform`."""
        params = self._params
        if params.top_k == 0 and params.top_p == 1 and params.min_p == 0:
            return _draw_of_all(_weights(logits, best, params.temperature), uniform)
        ids, weights = kept(logits, best, params)
        cumulative = weights.cumsum()
        # A uniform below 1 times the total is below the total even when rounded, so some token passes it.
        return int(ids[cumulative.searchsorted(uniform * cumulative[-1], side="right")])


def kept(logits: Float32, best: float, params: SamplingParams) -> tuple[Ids, Float64]:
    """The tokens that top-k, top-p and min-p leave, one after the other.

    Args:
        logits: float32 [vocab], after penalties and biases.
        best: their maximum.
        params: temperature above 0, and the three limits.

    Returns:
        Token ids [kept], ascending, and float64 [kept], their probabilities relative to the best token's.
    """
    ids: Ids | slice = slice(None)
    if 0 < params.top_k < logits.size:
        ids = highest(logits, params.top_k)
    if params.top_p < 1:
        nucleus = highest(logits[ids], _nucleus_size(logits[ids], best, params))
        ids = nucleus if isinstance(ids, slice) else ids[nucleus]
    if isinstance(ids, slice):
        # Min-p alone. Just below its threshold, so that rounding drops nothing; the exact comparison follows.
        floor = best + params.temperature * (math.log(params.min_p) - 1e-3) if params.min_p else -math.inf
        ids = np.flatnonzero(logits >= floor)
    weights = _weights64(logits[ids], best, params.temperature)
    likely = weights >= params.min_p  # the best token's weight is 1
    return ids[likely], weights[likely]


def highest(logits: Float32, count: int) -> Ids:
    """The ids [count] of the highest logits, ascending; of equals, those with the lower ids."""
    if count == 0:
        return np.empty(0, np.intp)
    last = np.partition(logits, logits.size - count)[logits.size - count]
    mask = logits > last
    mask[np.flatnonzero(logits == last)[: count - int(np.count_nonzero(mask))]] = True
    return np.flatnonzero(mask)


def _nucleus_size(logits: Float32, best: float, params: SamplingParams) -> int:
    """How many of the most likely tokens it takes to reach top-p."""
    goal = params.top_p * float(_weights(logits, best, params.temperature).sum(dtype=np.float64))
    for size in (*_NUCLEUS_SIZES, logits.size):
        start = max(logits.size - size, 0)
        likely = np.sort(np.partition(logits, start)[start:])[::-1]
        cumulative = _weights64(likely, best, params.temperature).cumsum()
        if cumulative[-1] >= goal:
            break
    return min(int(cumulative.searchsorted(goal)) + 1, cumulative.size)


def _weights(logits: Float32, best: float, temperature: float) -> Float32:
    """Probabilities relative to the best token's, float32 [vocab]."""
    with np.errstate(over="ignore"):  # a tiny temperature sends all but the best to -inf, and so to weight 0
        weights: Float32 = np.exp((logits - np.float32(best)) * np.float32(min(1 / temperature, 1e30)))
    return weights


def _weights64(logits: Float32, best: float, temperature: float) -> Float64:
    with np.errstate(over="ignore"):
        weights: Float64 = np.exp((logits.astype(np.float64) - best) / temperature)
    return weights


def _draw_of_all(weights: Float32, uniform: float) -> int:
    """Inverse of the cumulative distribution by blocks: a running sum of the whole vocabulary is the slow part."""
    whole = weights.size // _BLOCK * _BLOCK
    sums = np.append(weights[:whole].reshape(-1, _BLOCK).sum(axis=1), weights[whole:].sum()).cumsum(dtype=np.float64)
    goal = uniform * sums[-1]
    block = int(sums.searchsorted(goal, side="right"))
    before = sums[block - 1] if block else 0.0
    inside = weights[block * _BLOCK : (block + 1) * _BLOCK]
    index = int((before + inside.cumsum(dtype=np.float64)).searchsorted(goal, side="right"))
    # Rounding can leave the block's last sum just short of the goal: then its last possible token is meant.
    return block * _BLOCK + min(index, int(np.flatnonzero(inside)[-1]))


def _log_total(logits: Float32) -> float:
    best = float(logits.max())
    return best + math.log(float(np.exp(logits - np.float32(best)).sum(dtype=np.float64)))


def _invalid(name: str, problem: str) -> RequestError:
    return RequestError(
        Reason.INVALID_OPTION, f"{name}: {problem}. Change it or leave it out.", numbers={"field": name}
    )
