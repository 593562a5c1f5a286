"""How far two models' next-token distributions lie apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bise_export.sources.weight import Float32

# Positions whose distributions are held in float64 at once: 16 of a 131,072-token vocabulary are 17 MB an array.
_POSITIONS = 16

Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two models over the same positions.

    Attributes:
        mean_kl: KL(expected || found) of the next token, mean over positions, nats.
        p99_kl: its 99th percentile.
        top1_agreement: share of positions with the same most likely token.
        perplexity_ratio: the texts' perplexity by what was found over that by what was expected; 1 where no text has a
            second token.
        max_logit_difference: largest absolute difference of a logit.
        logit_spread: standard deviation of the expected logits: what the difference is to be measured by.
    """

    prompts: int
    positions: int
    mean_kl: float
    p99_kl: float
    top1_agreement: float
    perplexity_ratio: float
    max_logit_difference: float
    logit_spread: float


def compare(prompts: Iterable[tuple[Sequence[int], Float32, Float32]]) -> Agreement:
    """Compares logits [tokens, vocab], prompt by prompt: (its tokens, expected, found) of each.

    A logit that is not a number makes every figure say so: KL and difference are infinite, no token agrees.
    """
    kl: list[Float64] = []
    same: list[NDArray[np.bool_]] = []
    spreads: list[float] = []
    differences: list[float] = []
    surprise: list[Float64] = []
    count = 0
    for tokens, expected, found in prompts:
        count += 1
        following = np.array(tokens[1:], np.int64)
        for start in range(0, len(expected), _POSITIONS):
            one = expected[start : start + _POSITIONS].astype(np.float64)
            other = found[start : start + _POSITIONS].astype(np.float64)
            if not np.isfinite(other).all():
                kl.append(np.full(len(one), np.inf))
                same.append(np.zeros(len(one), np.bool_))
                differences.append(float("inf"))
                surprise.append(np.full(1, np.inf))
                continue
            log_p, log_q = _log_softmax(one), _log_softmax(other)
            kl.append(_kl(log_p, log_q))
            next_tokens = following[start : start + _POSITIONS]  # the last position has none
            places = np.arange(len(next_tokens))
            surprise.append(log_p[places, next_tokens] - log_q[places, next_tokens])
            same.append(one.argmax(-1) == other.argmax(-1))
            differences.append(float(np.abs(one - other).max()))
            spreads.append(float(one.std()))
    divergence = np.concatenate(kl)
    return Agreement(
        prompts=count,
        positions=len(divergence),
        mean_kl=float(divergence.mean()),
        p99_kl=float(np.quantile(divergence, 0.99, method="higher")),
        top1_agreement=float(np.concatenate(same).mean()),
        perplexity_ratio=_ratio(np.concatenate(surprise)),
        max_logit_difference=max(differences),
        logit_spread=float(np.mean(spreads)) if spreads else 0.0,
    )


def _ratio(surprise: Float64) -> float:
    """exp of the mean of log p - log q of the tokens that came."""
    with np.errstate(over="ignore"):
        return float(np.exp(surprise.mean())) if surprise.size else 1.0


def _kl(log_p: Float64, log_q: Float64) -> Float64:
    """KL divergence in nats of each row; never below 0, where rounding could take it."""
    divergence: Float64 = (np.exp(log_p) * (log_p - log_q)).sum(-1)
    return np.maximum(divergence, 0)


def _log_softmax(logits: Float64) -> Float64:
    shifted = logits - logits.max(-1, keepdims=True)
    normalized: Float64 = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return normalized
