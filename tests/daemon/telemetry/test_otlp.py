"""Families as OpenTelemetry's protocol has them."""

from __future__ import annotations

from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric as Told

from bise_daemon.telemetry import otlp
from bise_daemon.telemetry.metric import Distribution, Family, Instrument, Metric, Points

BEGAN_NS, NOW_NS = 1_000, 2_000


def told(metric: Metric, points: Points) -> list[Told]:
    request = otlp.to_metrics(
        [Family(metric, points)], otlp.resource({"host.name": "box"}), otlp.scope("1.2"), BEGAN_NS, NOW_NS
    )
    (of_resource,) = request.resource_metrics
    (of_scope,) = of_resource.scope_metrics
    assert [(each.key, each.value.string_value) for each in of_resource.resource.attributes] == [("host.name", "box")]
    assert (of_scope.scope.name, of_scope.scope.version) == ("bise", "1.2")
    return list(of_scope.metrics)


def test_a_counter_is_a_sum_that_only_grows() -> None:
    (metric,) = told(Metric("bise.count", Instrument.COUNTER, "{thing}", "How many.", ("kind",)), {("a",): 3.0})
    assert (metric.name, metric.unit, metric.description) == ("bise.count", "{thing}", "How many.")
    assert metric.sum.is_monotonic
    assert metric.sum.aggregation_temporality == AGGREGATION_TEMPORALITY_CUMULATIVE
    (point,) = metric.sum.data_points
    assert (point.as_double, point.start_time_unix_nano, point.time_unix_nano) == (3, BEGAN_NS, NOW_NS)
    assert [(each.key, each.value.string_value) for each in point.attributes] == [("kind", "a")]


def test_a_gauge_is_one_even_at_zero() -> None:
    (metric,) = told(Metric("bise.level", Instrument.GAUGE, "By", "How much."), {(): 0.0})
    (point,) = metric.gauge.data_points
    assert point.HasField("as_double")


def test_a_histogram_keeps_its_bounds() -> None:
    distribution = Distribution((1.0, 2.0))
    for value in (0.5, 1.5, 9.0):
        distribution.observe(value)
    row = Metric("bise.took", Instrument.HISTOGRAM, "s", "How long.", ("who", "error.type"), (1.0, 2.0))
    (metric,) = told(row, {("me", ""): distribution})
    (point,) = metric.histogram.data_points
    assert metric.histogram.aggregation_temporality == AGGREGATION_TEMPORALITY_CUMULATIVE
    assert (point.count, point.sum, list(point.bucket_counts), list(point.explicit_bounds)) == (
        3,
        11,
        [1, 1, 1],
        [1, 2],
    )
    assert [each.key for each in point.attributes] == ["who"]  # an empty one is none


def test_what_has_no_point_is_not_told() -> None:
    assert told(Metric("bise.count", Instrument.COUNTER, "", "How many."), {}) == []
