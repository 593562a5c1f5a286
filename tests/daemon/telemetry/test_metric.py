"""Names in two forms, and histograms."""

from __future__ import annotations

import pytest

from bise_daemon.telemetry.metric import Distribution, Instrument, Metric


@pytest.mark.parametrize(
    ("name", "instrument", "unit", "names"),
    [
        ("a.b", Instrument.COUNTER, "J", {"a_b_joules_total"}),
        ("a.b", Instrument.COUNTER, "{token}", {"a_b_total"}),
        ("a.b", Instrument.GAUGE, "1", {"a_b_ratio"}),
        ("a.bytes", Instrument.GAUGE, "By", {"a_bytes"}),
        ("a.b", Instrument.HISTOGRAM, "s", {"a_b_seconds_bucket", "a_b_seconds_sum", "a_b_seconds_count"}),
    ],
)
def test_prometheus_names_have_their_unit(name: str, instrument: Instrument, unit: str, names: set[str]) -> None:
    assert Metric(name, instrument, unit, "").prometheus_names == names


def test_bounds_are_inclusive() -> None:
    distribution = Distribution((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 9.0):
        distribution.observe(value)
    assert (distribution.counts, distribution.sum) == ([2, 2, 1], 14.0)
