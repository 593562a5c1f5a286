"""How far two models' next-token distributions lie apart."""

from __future__ import annotations

from collections.abc import Iterable
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
        max_logit_difference: largest absolute difference of a logit.
        logit_spread: standard deviation of the expected logits: what the difference is to be measured by.
    """

    prompts: int
    positions: int
    mean_kl: float
    p99_kl: float
    top1_agreement: float
    max_logit_difference: float
    logit_spread: float


def compare(pairs: Iterable[tuple[Float32, Float32]]) -> Agreement:
    """Compares logits [tokens, vocab], prompt by prompt: (expected, found) of each.

    A logit that is not a number makes every figure say so: KL and difference are infinite, no token agrees.
    """
    kl: list[Float64] = []
    same: list[NDArray[np.bool_]] = []
    spreads: list[float] = []
    differences: list[float] = []
    prompts = 0
    for expected, found in pairs:
        prompts += 1
        for start in range(0, len(expected), _POSITIONS):
            one = expected[start : start + _POSITIONS].astype(np.float64)
            other = found[start : start + _POSITIONS].astype(np.float64)
            if not np.isfinite(other).all():
                kl.append(np.full(len(one), np.inf))
                same.append(np.zeros(len(one), np.bool_))
                differences.append(float("inf"))
                continue
            kl.append(_kl(one, other))
            same.append(one.argmax(-1) == other.argmax(-1))
            differences.append(float(np.abs(one - other).max()))
            spreads.append(float(one.std()))
    divergence = np.concatenate(kl)
    return Agreement(
        prompts=prompts,
        positions=len(divergence),
        mean_kl=float(divergence.mean()),
        p99_kl=float(np.quantile(divergence, 0.99, method="higher")),
        top1_agreement=float(np.concatenate(same).mean()),
        max_logit_difference=max(differences),
        logit_spread=float(np.mean(spreads)) if spreads else 0.0,
    )


def _kl(expected: Float64, found: Float64) -> Float64:
    """KL divergence in nats of each row's softmax; never below 0, where rounding could take it."""
    log_p, log_q = _log_softmax(expected), _log_softmax(found)
    divergence: Float64 = (np.exp(log_p) * (log_p - log_q)).sum(-1)
    return np.maximum(divergence, 0)


def _log_softmax(logits: Float64) -> Float64:
    shifted = logits - logits.max(-1, keepdims=True)
    normalized: Float64 = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return normalized
