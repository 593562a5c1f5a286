"""Spans of requests whose callers trace them."""

from __future__ import annotations

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Told
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from bise_daemon.errors import Reason, RequestError
from bise_daemon.telemetry import otlp
from bise_daemon.telemetry.answers import Responses
from bise_daemon.telemetry.traces import Parent, Traces, sampling_parent
from bise_proto.v1 import inference_pb2 as pb

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = Parent(bytes.fromhex(TRACE), bytes.fromhex(CALLER))


@pytest.mark.parametrize(
    "told",
    [f"00-{TRACE}-{CALLER}-01", f"00-{TRACE}-{CALLER}-03", f"01-{TRACE}-{CALLER}-01-more", f"cc-{TRACE}-{CALLER}-01"],
)
def test_a_sampled_parent_is_taken(told: str) -> None:
    assert sampling_parent(told) == PARENT


@pytest.mark.parametrize(
    "told",
    [
        None,
        "",
        f"00-{TRACE}-{CALLER}-00",
        f"00-{TRACE}-{CALLER}-02",
        f"00-{TRACE}-{CALLER}-01-more",
        f"ff-{TRACE}-{CALLER}-01",
        f"00-{'0' * 32}-{CALLER}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{CALLER}-01",
        f"00-{TRACE}-{CALLER}-1",
        f"00-{TRACE}-{CALLER}-01\n",
        "\u0660" * 55,
        "x" * 10_000,
    ],
)
def test_what_is_no_sampled_parent_is_as_if_nothing_was_told(told: str | None) -> None:
    assert sampling_parent(told) is None


async def given() -> Responses:
    yield pb.GenerateResponse(accepted=pb.Accepted(request_id="r1", prompt_tokens=7, granted_max_tokens=9))
    yield pb.GenerateResponse(delta=pb.Delta(text="secret words"))
    yield pb.GenerateResponse(
        done=pb.Done(
            finish_reason=pb.STOP,
            usage=pb.Usage(prompt_tokens=7, completion_tokens=5, cached_tokens=3),
            timings=pb.Timings(queue_ms=10, first_token_ms=50, total_ms=130),
        )
    )


async def refused() -> Responses:
    raise RequestError(Reason.BUDGET, "no.")
    yield


def told(traces: Traces) -> Told:
    (span,) = traces.take()
    request = otlp.to_traces([span], otlp.resource({"host.name": "box"}), otlp.scope("1"))
    assert b"secret" not in request.SerializeToString()
    return request.resource_spans[0].scope_spans[0].spans[0]


def attributes(span: Told) -> dict[str, object]:
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


async def test_an_answer_is_a_span_below_its_callers() -> None:
    traces = Traces()
    assert len([response async for response in traces.watched("chat", given(), "tiny", PARENT)]) == 3
    span = told(traces)
    assert (span.trace_id.hex(), span.parent_span_id.hex(), span.kind) == (TRACE, CALLER, Told.SPAN_KIND_SERVER)
    assert span.name == "chat tiny"
    assert len(span.span_id) == 8
    assert any(span.span_id)
    assert attributes(span) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "bise",
        "gen_ai.request.model": "tiny",
        "bise.request.id": "r1",
        "gen_ai.response.finish_reasons": "stop",
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 3,
        "bise.granted_tokens": 9,
        "bise.predicted_first_token_ms": 0,
        "bise.predicted_total_ms": 0,
    }
    after_ns = {event.name: event.time_unix_nano - span.start_time_unix_nano for event in span.events}
    assert after_ns == {"bise.taken_up": 10_000_000, "bise.first_token": 50_000_000}
    assert span.end_time_unix_nano >= span.start_time_unix_nano
    assert span.status.code == Status.STATUS_CODE_UNSET
    assert traces.take() == []


async def test_a_refusal_is_an_error_with_its_reason() -> None:
    traces = Traces()
    with pytest.raises(RequestError):
        await anext(traces.watched("chat", refused(), "tiny", PARENT))
    span = told(traces)
    assert (span.status.code, span.status.message) == (Status.STATUS_CODE_ERROR, "BUDGET")
    assert attributes(span)["error.type"] == "BUDGET"


@pytest.mark.parametrize(("taken", "error"), [(1, "CANCELLED"), (3, "")])
async def test_who_leaves_is_told_apart(taken: int, error: str) -> None:
    traces = Traces()
    watched = traces.watched("chat", given(), "tiny", PARENT)
    for _ in range(taken):
        await anext(watched)
    await watched.aclose()
    assert told(traces).status.message == error


async def test_of_too_many_the_latest_are_kept() -> None:
    traces = Traces()
    for number in range(1030):
        _ = [each async for each in traces.watched(str(number), given(), "tiny", PARENT)]
    spans = traces.take()
    assert (len(spans), spans[0].operation, spans[-1].operation) == (1024, "6", "1029")
