"""Families as OpenTelemetry's protocol has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from bise_daemon.telemetry.metric import Distribution, Family, Instrument
from bise_daemon.telemetry.metric import Metric as Row

_CUMULATIVE = metrics_pb2.AGGREGATION_TEMPORALITY_CUMULATIVE


def resource(attributes: Mapping[str, str]) -> Resource:
    """Who tells."""
    return Resource(attributes=to_attributes(attributes))


def scope(version: str) -> InstrumentationScope:
    """By what it is told."""
    return InstrumentationScope(name="bise", version=version)


def to_attributes(values: Mapping[str, str]) -> list[KeyValue]:
    """Names and values; an empty value is none."""
    return [KeyValue(key=name, value=AnyValue(string_value=value)) for name, value in values.items() if value]


def to_metrics(
    families: Iterable[Family], who: Resource, by: InstrumentationScope, began_ns: int, now_ns: int
) -> ExportMetricsServiceRequest:
    """The request that tells them; families without a point are left out.

    Args:
        began_ns, now_ns: since when counters and histograms count, and until when, since 1970.
    """
    metrics = [_metric(family, began_ns, now_ns) for family in families if family.points]
    told = metrics_pb2.ScopeMetrics(scope=by, metrics=metrics)
    return ExportMetricsServiceRequest(
        resource_metrics=[metrics_pb2.ResourceMetrics(resource=who, scope_metrics=[told])]
    )


def _metric(family: Family, began_ns: int, now_ns: int) -> metrics_pb2.Metric:
    row = family.metric
    told = metrics_pb2.Metric(name=row.name, description=row.help, unit=row.unit)
    match row.instrument:
        case Instrument.COUNTER:
            told.sum.CopyFrom(metrics_pb2.Sum(is_monotonic=True, aggregation_temporality=_CUMULATIVE))
            points = told.sum.data_points
        case Instrument.GAUGE:
            points = told.gauge.data_points
        case Instrument.HISTOGRAM:
            told.histogram.aggregation_temporality = _CUMULATIVE
    for labels, value in family.points.items():
        attributes = _attributes(row, labels)
        if isinstance(value, Distribution):
            told.histogram.data_points.add(
                attributes=attributes,
                start_time_unix_nano=began_ns,
                time_unix_nano=now_ns,
                count=sum(value.counts),
                sum=value.sum,
                bucket_counts=value.counts,
                explicit_bounds=value.bounds,
            )
        else:
            points.add(attributes=attributes, start_time_unix_nano=began_ns, time_unix_nano=now_ns, as_double=value)
    return told


def _attributes(row: Row, labels: tuple[str, ...]) -> list[KeyValue]:
    return to_attributes(dict(zip(row.labels, labels, strict=True)))
