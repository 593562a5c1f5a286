"""Goodput: the figures of a run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.latency.goodput import percentile, summarize
from bench.latency.runner import Outcome
from bench.latency.server import Promise


def test_shares_are_of_all_that_was_offered(record) -> None:
    summary = summarize(
        [
            record(50, 60, 70, 80),
            record(50, 85, 90, 95, shape="chat"),  # one gap too long, its mean is not
            record(50, 60, ended_ms=210),  # cut off at the deadline
            record(outcome=Outcome.REFUSED, ended_ms=3, late_ms=1, detail="BUDGET"),
            record(50, outcome=Outcome.FAILED, detail="hung up"),
        ]
    )
    assert summary.offered == 5
    assert summary.met_share == pytest.approx(1 / 5)
    assert summary.met_pace_share == pytest.approx(2 / 5)
    assert summary.met_total_share == pytest.approx(2 / 5)
    assert summary.met_by_shape == {"chat": 0.0, "talk": pytest.approx(1 / 4)}
    assert (summary.refused, summary.failed, summary.cut_off) == (1, 1, 1)
    assert summary.refusal_p99_ms == pytest.approx(2)
    assert summary.overrun_p99_ms == pytest.approx(10)
    assert summary.reasons == {"BUDGET": 1, "hung up": 1}


def test_throughput_counts_from_the_first_call_to_the_last_token(record) -> None:
    summary = summarize([record(100, 110, 120, 130, at_ms=1000), record(150, 160, 170, 180, at_ms=1820)])
    assert summary.tokens_per_s == pytest.approx(8)
    assert summary.good_tokens_per_s == pytest.approx(4)  # the second's first token is late


def test_prediction_errors_are_relative_and_of_what_was_sent(record) -> None:
    summary = summarize([record(60, 70, 80, 110, late_ms=10, promise=Promise(55, 80, 4))])
    assert summary.first_token_error_p50 == pytest.approx(0.1)
    assert summary.total_error_p90 == pytest.approx(0.2)


def test_figures_without_a_source_are_none(record) -> None:
    summary = summarize([record(outcome=Outcome.REFUSED, ended_ms=1)])
    assert summary.first_token_p50_ms is None
    assert summary.gap_p99_ms is None
    assert summary.total_error_p50 is None


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(1, 100))
def test_a_percentile_is_one_of_the_values_and_covers_its_share(values: list[float], percent: float) -> None:
    found = percentile(values, percent)
    assert found in values
    assert sum(value <= found for value in values) >= percent / 100 * len(values) - 1e-6


def test_percentiles_by_nearest_rank() -> None:
    assert percentile(range(1, 101), 99) == 99
    assert percentile([3.0], 50) == 3.0
    assert percentile([], 50) is None
