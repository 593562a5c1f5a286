"""Families and spans as OpenTelemetry's protocol has them."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1 import trace_pb2

from bise_daemon.telemetry.answers import PROVIDER
from bise_daemon.telemetry.metric import Distribution, Family, Instrument
from bise_daemon.telemetry.metric import Metric as Row
from bise_daemon.telemetry.traces import Span

_SPAN_ID_BYTES = 8
# Sampled, with a parent in another process.
_FLAGS = 1 | trace_pb2.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK | trace_pb2.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK
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


def to_traces(spans: Iterable[Span], who: Resource, by: InstrumentationScope) -> ExportTraceServiceRequest:
    """The request that tells spans; each gets an id of its own."""
    told = trace_pb2.ScopeSpans(scope=by, spans=map(_span, spans))
    return ExportTraceServiceRequest(resource_spans=[trace_pb2.ResourceSpans(resource=who, scope_spans=[told])])


def _span(span: Span) -> trace_pb2.Span:
    words = {
        "gen_ai.operation.name": span.operation,
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.request.model": span.model,
        "error.type": span.error,
    }
    numbers = [KeyValue(key=name, value=AnyValue(int_value=value)) for name, value in span.numbers.items()]
    code = trace_pb2.Status.STATUS_CODE_ERROR if span.error else trace_pb2.Status.STATUS_CODE_UNSET
    return trace_pb2.Span(
        trace_id=span.parent.trace_id,
        span_id=secrets.token_bytes(_SPAN_ID_BYTES),
        parent_span_id=span.parent.span_id,
        flags=_FLAGS,
        name=f"{span.operation} {span.model}".strip(),
        kind=trace_pb2.Span.SPAN_KIND_SERVER,
        start_time_unix_nano=span.began_ns,
        end_time_unix_nano=span.ended_ns,
        attributes=[*to_attributes(words | span.words), *numbers],
        events=[trace_pb2.Span.Event(name=name, time_unix_nano=at_ns) for name, at_ns in span.events.items()],
        status=trace_pb2.Status(code=code, message=span.error),
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
