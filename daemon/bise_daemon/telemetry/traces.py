"""Spans of requests whose callers trace them: when they were taken up, when their first token came, how they ended."""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from contextlib import aclosing
from dataclasses import dataclass, field

from bise_daemon.errors import RequestError
from bise_daemon.telemetry.answers import BROKEN, LEFT, Responses
from bise_proto.v1 import inference_pb2

# W3C Trace Context, level 1: version 00, and what later versions begin with.
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_SAMPLED = 1
# Between two exports; whoever traces more than this gets the latest.
_MOST_SPANS = 1024


@dataclass(frozen=True, slots=True)
class Parent:
    """The caller's span."""

    trace_id: bytes
    span_id: bytes


@dataclass(slots=True)
class Span:
    """One request.

    Attributes:
        began_ns, ended_ns: since 1970; `events` too, by name.
        numbers, words: attributes.
        error: as `error.type`; empty for none.
    """

    operation: str
    model: str
    parent: Parent
    began_ns: int
    ended_ns: int = 0
    error: str = BROKEN
    events: dict[str, int] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)


def sampling_parent(traceparent: str | None) -> Parent | None:
    """The caller's span, if it is told in W3C's form and sampled; anything else is as if nothing was told."""
    found = _TRACEPARENT.fullmatch(traceparent or "")
    if found is None or found[1] == "ff" or (found[1] == "00" and found[5]):
        return None
    parent = Parent(bytes.fromhex(found[2]), bytes.fromhex(found[3]))
    if not (any(parent.trace_id) and any(parent.span_id) and int(found[4], 16) & _SAMPLED):
        return None
    return parent


class Traces:
    """Spans that ended and were not exported yet. Written on the event loop, taken by any thread."""

    def __init__(self) -> None:
        self._ended: deque[Span] = deque(maxlen=_MOST_SPANS)

    async def watched(self, operation: str, responses: Responses, model: str, parent: Parent) -> Responses:
        """The same responses; a span is kept when they end.

        Raises:
            RequestError: what the responses raise.
        """
        span = Span(operation, model, parent, time.time_ns())
        try:
            async with aclosing(responses):
                async for response in responses:
                    _note(span, response)
                    yield response
        except RequestError as refusal:
            span.error = refusal.reason.value
            raise
        except (GeneratorExit, asyncio.CancelledError):
            span.error = span.error and LEFT
            raise
        finally:
            span.ended_ns = time.time_ns()
            self._ended.append(span)

    def take(self) -> list[Span]:
        """Spans that ended since the last call, but for those there was no room for."""
        return [self._ended.popleft() for _ in range(len(self._ended))]


def _note(span: Span, response: inference_pb2.GenerateResponse) -> None:
    match response.WhichOneof("event"):
        case "accepted":
            accepted = response.accepted
            span.words["bise.request.id"] = accepted.request_id
            span.numbers["gen_ai.usage.input_tokens"] = accepted.prompt_tokens
            span.numbers["bise.granted_tokens"] = accepted.granted_max_tokens
            span.numbers["bise.predicted_first_token_ms"] = round(accepted.predicted_first_token_ms)
            span.numbers["bise.predicted_total_ms"] = round(accepted.predicted_total_ms)
        case "done":
            usage, timings = response.done.usage, response.done.timings
            span.error = ""
            span.numbers["gen_ai.usage.output_tokens"] = usage.completion_tokens
            span.numbers["gen_ai.usage.cache_read.input_tokens"] = usage.cached_tokens
            finish = inference_pb2.FinishReason.Name(response.done.finish_reason).lower()
            span.words["gen_ai.response.finish_reasons"] = finish
            for name, after_ms in (("bise.taken_up", timings.queue_ms), ("bise.first_token", timings.first_token_ms)):
                span.events[name] = span.began_ns + round(after_ms * 1e6)
