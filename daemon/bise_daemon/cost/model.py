"""Expected step times: the calibrated curve, and what the steps themselves taught since."""

from __future__ import annotations

import math
from dataclasses import replace

from bise_daemon.cost.curve import Curve, verified_entries
from bise_daemon.cost.quantile import Window

# How far one step moves the expectation, as a share of its error: all steps' (a neighbour slows everything alike), and
# that of steps like it. With the error cut at a third, twice the time is learned, and forgotten, in about 30 steps,
# while steps that scatter by 10 % move it by 3 %.
_DRIFT_RATE = 0.12
_SHAPE_RATE = 0.03
_MOST_ERROR = 0.3
# Steps that quantiles are of: half a second of decoding on a small model, a minute of a large one's.
_WINDOW = 128
_MOST_MARGIN = 3.0
_LEAST_MS = 1e-3


class CostModel:
    """`StepCosts` that follow the device: its neighbours, its temperature, and what calibration got wrong.

    An expectation is `drift × curve`. The drift is one number for all steps, and follows quickly. The curve follows
    slowly, only where a step was, and each of its parts by its share in that step's time, so that long contexts
    correct attention and short ones the rest. Errors are logarithms of actual over expected time, cut at a limit: a
    Huber estimate, between mean and median, which no outlier moves far. Whatever was learned, times grow with their
    arguments.

    One thread observes. Any may read: every attribute read is an immutable value, replaced as a whole.
    """

    def __init__(self, curve: Curve) -> None:
        self._curve = curve
        self._drift = 1.0
        self._ratios = Window(_WINDOW)
        self._ratio_p50 = 1.0
        self._ratio_p90 = 1.0

    @property
    def margin(self) -> float:
        """How much longer than expected a step may take: the 90th percentile of late, from 1 to 3."""
        return min(max(1.0, self._ratio_p90), _MOST_MARGIN)

    @property
    def ratio_p50(self) -> float:
        """Median of actual over predicted time of the latest steps, each as predicted then; 1 before the first."""
        return self._ratio_p50

    @property
    def ratio_p90(self) -> float:
        """As `ratio_p50`, the 90th percentile."""
        return self._ratio_p90

    def prefill_ms(self, tokens: int, context_tokens: int) -> float:
        """A chunk of `tokens` behind `context_tokens` cache entries."""
        return self._drift * self._curve.prefill_ms(tokens, context_tokens)

    def decode_ms(self, rows: int, context_tokens: int) -> float:
        """One token for each of `rows`; `context_tokens` is the sum over the rows."""
        return self._drift * self._curve.decode_ms(rows, context_tokens)

    def mixed_ms(self, tokens: int, context_tokens: int, rows: int, rows_context_tokens: int) -> float:
        """A chunk, and one token for each of `rows`, in one step."""
        return self._drift * self._curve.mixed_ms(tokens, context_tokens, rows, rows_context_tokens)

    def verify_ms(self, tokens: int, context_tokens: int) -> float:
        """Guesses behind a token of an answer."""
        return self._drift * self._curve.verify_ms(tokens, context_tokens)

    def copy_ms(self, tokens: int) -> float:
        """Cache entries from slot to slot."""
        return self._drift * self._curve.copy_ms(tokens)

    def observe_prefill(self, tokens: int, context_tokens: int, took_ms: float) -> None:
        """Learns from a chunk that took `took_ms`."""
        curve = self._curve
        matrices_ms = curve.prefill.at(tokens)
        attention_ms = curve.prefill_ms(tokens, context_tokens) - matrices_ms
        pull = self._learn(matrices_ms + attention_ms, took_ms)
        self._curve = replace(
            curve,
            prefill=curve.prefill.scaled(tokens, math.exp(pull * matrices_ms)),
            prefill_entry=curve.prefill_entry.scaled(tokens, math.exp(pull * attention_ms)),
        )

    def observe_mixed(
        self, tokens: int, context_tokens: int, rows: int, rows_context_tokens: int, took_ms: float
    ) -> None:
        """Learns from a chunk and a token for each of `rows`."""
        curve = self._curve
        matrices_ms, rows_ms = curve.prefill.at(tokens + rows), curve.decode_entry_ms * rows_context_tokens
        whole_ms = curve.mixed_ms(tokens, context_tokens, rows, rows_context_tokens)
        pull = self._learn(whole_ms, took_ms)
        self._curve = replace(
            curve,
            prefill=curve.prefill.scaled(tokens + rows, math.exp(pull * matrices_ms)),
            prefill_entry=curve.prefill_entry.scaled(tokens, math.exp(pull * (whole_ms - matrices_ms - rows_ms))),
            decode_entry_ms=curve.decode_entry_ms * math.exp(pull * rows_ms),
        )

    def observe_verify(self, tokens: int, context_tokens: int, took_ms: float) -> None:
        """Learns from guesses behind a token."""
        self.observe_decode(tokens, verified_entries(tokens, context_tokens), took_ms)

    def observe_decode(self, rows: int, context_tokens: int, took_ms: float) -> None:
        """Learns from one token for each of `rows`; `context_tokens` is the sum over the rows."""
        curve = self._curve
        matrices_ms, attention_ms = curve.decode.at(rows), curve.decode_entry_ms * context_tokens
        pull = self._learn(matrices_ms + attention_ms, took_ms)
        self._curve = replace(
            curve,
            decode=curve.decode.scaled(rows, math.exp(pull * matrices_ms)),
            decode_entry_ms=curve.decode_entry_ms * math.exp(pull * attention_ms),
        )

    def _learn(self, curve_ms: float, took_ms: float) -> float:
        """Takes a step into ratios and drift; returns how much the curve's parts are to change, for each ms of them."""
        ratio = max(took_ms, _LEAST_MS) / max(self._drift * curve_ms, _LEAST_MS)
        self._ratios.add(ratio)
        self._ratio_p50, self._ratio_p90 = self._ratios.quantile(0.5, 1.0), self._ratios.quantile(0.9, 1.0)
        error = max(-_MOST_ERROR, min(math.log(ratio), _MOST_ERROR))
        self._drift *= math.exp(_DRIFT_RATE * error)
        return _SHAPE_RATE * error / max(curve_ms, _LEAST_MS)
