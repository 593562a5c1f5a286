"""Goodput: what a run's records amount to. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .runner import Outcome, Record


@dataclass(frozen=True, slots=True)
class Summary:
    """One run of one server. A figure nobody contributed to is None.

    Attributes:
        offered: calls of the trace.
        met_share: of all offered, those with first token, every gap, total and all tokens within their budgets.
        met_pace_share: the same with the mean gap in place of every gap.
        met_first_token_share, met_every_gap_share, met_total_share: of all offered, by single budgets.
        met_by_shape: `met_share` of each shape.
        first_token_ms: p50 and p99 over calls that got one.
        gap_p99_ms: over all gaps of all calls.
        tokens_per_s: delivered, from the first call's due time to the last answer's end.
        good_tokens_per_s: of them, those of calls that met their budget.
        refused, failed, cut_off: calls by how they ended; those cut off got some of their tokens.
        refusal_p99_ms: from due time to the no.
        overrun_p99_ms: how long after its total budget an accepted call ended; 0 is in time.
        first_token_error, total_error: p50 and p90 of |predicted - actual| / actual, of accepted whole answers.
        late_p99_ms: how far behind the trace calls were sent.
    """

    offered: int
    met_share: float
    met_pace_share: float
    met_first_token_share: float
    met_every_gap_share: float
    met_total_share: float
    met_by_shape: dict[str, float]
    first_token_p50_ms: float | None
    first_token_p99_ms: float | None
    gap_p99_ms: float | None
    tokens_per_s: float
    good_tokens_per_s: float
    refused: int
    failed: int
    cut_off: int
    refusal_p99_ms: float | None
    overrun_p99_ms: float | None
    first_token_error_p50: float | None
    first_token_error_p90: float | None
    total_error_p50: float | None
    total_error_p90: float | None
    late_p99_ms: float | None
    reasons: dict[str, int]


def summarize(records: Sequence[Record]) -> Summary:
    """The figures of at least one record."""
    by_shape: dict[str, list[Record]] = {}
    for record in records:
        by_shape.setdefault(record.call.shape, []).append(record)
    answered = [record for record in records if record.outcome is Outcome.ANSWERED]
    refused = [record for record in records if record.outcome is Outcome.REFUSED]
    began_ms = min(record.call.at_ms for record in records)
    took_s = max(record.call.at_ms + record.ended_ms for record in records) / 1e3 - began_ms / 1e3
    firsts = [record.token_ms[0] for record in records if record.token_ms]
    promised = [(record, record.promise) for record in answered if record.promise is not None and record.whole]
    first_errors = [_error(promise.first_token_ms, record.token_ms[0] - record.late_ms) for record, promise in promised]
    total_errors = [_error(promise.total_ms, record.token_ms[-1] - record.late_ms) for record, promise in promised]
    return Summary(
        offered=len(records),
        met_share=_share(records, met),
        met_pace_share=_share(records, met_at_pace),
        met_first_token_share=_share(records, lambda record: record.met_first_token),
        met_every_gap_share=_share(records, lambda record: record.met_every_gap),
        met_total_share=_share(records, lambda record: record.met_total),
        met_by_shape={shape: _share(some, met) for shape, some in sorted(by_shape.items())},
        first_token_p50_ms=percentile(firsts, 50),
        first_token_p99_ms=percentile(firsts, 99),
        gap_p99_ms=percentile([gap for record in records for gap in record.gaps_ms], 99),
        tokens_per_s=sum(len(record.token_ms) for record in records) / took_s,
        good_tokens_per_s=sum(len(record.token_ms) for record in records if met(record)) / took_s,
        refused=len(refused),
        failed=sum(record.outcome is Outcome.FAILED for record in records),
        cut_off=sum(not record.whole for record in answered),
        refusal_p99_ms=percentile([record.ended_ms - record.late_ms for record in refused], 99),
        overrun_p99_ms=percentile([max(0.0, record.ended_ms - record.call.budget.total_ms) for record in answered], 99),
        first_token_error_p50=percentile(first_errors, 50),
        first_token_error_p90=percentile(first_errors, 90),
        total_error_p50=percentile(total_errors, 50),
        total_error_p90=percentile(total_errors, 90),
        late_p99_ms=percentile([record.late_ms for record in records], 99),
        reasons=dict(Counter(record.detail for record in records if record.detail).most_common(10)),
    )


def met(record: Record) -> bool:
    """Whether a call got all it was to get: the bench's one measure."""
    return record.met_first_token and record.met_every_gap and record.met_total


def met_at_pace(record: Record) -> bool:
    """As `met`, by the mean gap."""
    return record.met_first_token and record.met_pace and record.met_total


def percentile(values: Sequence[float], percent: float) -> float | None:
    """The smallest value that `percent` of all values do not exceed (nearest rank); None of nothing."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(percent / 100 * len(values)) - 1)]


def _share(records: Sequence[Record], holds: Callable[[Record], bool]) -> float:
    return sum(map(holds, records)) / len(records)


def _error(predicted_ms: float, actual_ms: float) -> float:
    return abs(predicted_ms - actual_ms) / actual_ms
