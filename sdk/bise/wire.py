"""Between the SDK's values and the messages on the wire."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar

from grpc_health.v1 import health_pb2

from bise.errors import InvalidRequest
from bise.messages import Conversation, MalformedToolCall, Message, ToolCall, ToolCallDelta
from bise.tools import ToolLike, describe
from bise.types import (
    Accepted,
    Delta,
    FinishReason,
    Health,
    MemoryLevel,
    PredictionError,
    Promises,
    State,
    Status,
    Timings,
    TokenCount,
    TokenLogprob,
    Usage,
)
from bise_proto.v1 import device_pb2
from bise_proto.v1 import inference_pb2 as pb

T = TypeVar("T")

_FINISH_REASONS = {
    pb.STOP: FinishReason.STOP,
    pb.STOP_SEQUENCE: FinishReason.STOP_SEQUENCE,
    pb.LENGTH: FinishReason.LENGTH,
    pb.DEADLINE: FinishReason.DEADLINE,
    pb.TOOL_CALLS: FinishReason.TOOL_CALLS,
    pb.INTERRUPTED: FinishReason.INTERRUPTED,
}
_TOOL_MODES: dict[str | None, pb.ToolChoice.Mode] = {
    "auto": pb.ToolChoice.AUTO,
    "none": pb.ToolChoice.NONE,
    "required": pb.ToolChoice.REQUIRED,
}
_STATES = {
    device_pb2.Status.LOADING: State.LOADING,
    device_pb2.Status.SERVING: State.SERVING,
    device_pb2.Status.DRAINING: State.DRAINING,
    device_pb2.Status.FAILED: State.FAILED,
}
_MEMORY_LEVELS = {
    device_pb2.Status.NORMAL: MemoryLevel.NORMAL,
    device_pb2.Status.TIGHT: MemoryLevel.TIGHT,
    device_pb2.Status.CRITICAL: MemoryLevel.CRITICAL,
}
_HEALTH = {
    health_pb2.HealthCheckResponse.SERVING: Health.SERVING,
    health_pb2.HealthCheckResponse.NOT_SERVING: Health.NOT_SERVING,
}


def encode_messages(conversation: Conversation) -> list[pb.Message]:
    """The messages on the wire; a plain text is one user message.

    Raises:
        InvalidRequest: a message that is not a role and a content of text.
    """
    if isinstance(conversation, str):
        conversation = [Message("user", conversation)]
    return [_encode_message(index, message) for index, message in enumerate(conversation)]


def _encode_message(index: int, message: Message | Mapping[str, Any]) -> pb.Message:
    try:
        if isinstance(message, Mapping):
            if not message.keys() & {"content", "tool_calls"}:
                raise TypeError
            message = Message(**message)
        return pb.Message(
            role=message.role,
            content=message.content,
            tool_calls=[_encode_call(call) for call in message.tool_calls],
            tool_call_id=message.tool_call_id,
            name=message.name,
        )
    except (TypeError, ValueError, AttributeError):
        raise InvalidRequest(
            f'messages[{index}]: expected {{"role": text, "content": text}} or a bise.Message, got {message!r:.200}',
            reason="INVALID_MESSAGE",
            numbers={"field": f"messages[{index}]"},
        ) from None


def decode_messages(messages: Iterable[pb.Message]) -> tuple[Message, ...]:
    """What was said."""
    return tuple(
        Message(
            message.role,
            message.content,
            tuple(ToolCall(call.id, call.name, call.arguments) for call in message.tool_calls),
            message.tool_call_id,
            message.name,
        )
        for message in messages
    )


def _encode_call(call: ToolCall | Mapping[str, str]) -> pb.ToolCall:
    if isinstance(call, Mapping):
        call = ToolCall(**call)
    return pb.ToolCall(id=call.id, name=call.name, arguments=call.arguments)


def encode_chat(
    conversation: Conversation,
    tools: Sequence[ToolLike] | None,
    tool_choice: str | None,
    parallel_tool_calls: bool | None,
    continue_final_message: bool,
) -> pb.Messages:
    """A conversation with its tools.

    Raises:
        InvalidRequest: a message, a tool or a choice that is none; the message names the field.
    """
    choice = pb.ToolChoice(single=parallel_tool_calls is False)
    if tool_choice in _TOOL_MODES:
        choice.mode = _TOOL_MODES[tool_choice]
    elif tool_choice is not None:
        choice.name = tool_choice
    described = [describe(tool, f"tools[{index}]") for index, tool in enumerate(tools or ())]
    return pb.Messages(
        messages=encode_messages(conversation),
        tools=[
            pb.Tool(name=tool.name, description=tool.description, parameters=json.dumps(tool.parameters))
            for tool in described
        ],
        tool_choice=choice,
        continue_final_message=continue_final_message,
    )


def encode_prompt(prompt: str | Sequence[int], options: pb.Options) -> pb.GenerateRequest:
    """A request for a raw prompt or for token ids.

    Raises:
        InvalidRequest: the text has no UTF-8 form, or an id is no whole number of 0 to 2³² - 1.
    """
    try:
        if isinstance(prompt, str):
            return pb.GenerateRequest(prompt=prompt, options=options)
        return pb.GenerateRequest(token_ids=pb.TokenIds(ids=prompt), options=options)
    except (TypeError, ValueError, OverflowError):
        raise InvalidRequest(
            f"prompt: expected a text in Unicode, or token ids of 0 to 2³² - 1, got {prompt!r:.200}",
            reason="INVALID_OPTION" if isinstance(prompt, str) else "INVALID_TOKEN_ID",
            numbers={"field": "prompt"},
        ) from None


def decode_accepted(accepted: pb.Accepted) -> Accepted:
    """What the daemon promised."""
    return _same(Accepted, accepted)


def decode_delta(delta: pb.Delta) -> Delta:
    """What the answer grew by."""
    calls = tuple(_same(ToolCallDelta, call) for call in delta.tool_calls)
    return Delta(delta.text, tuple(delta.token_ids), tuple(map(_decode_logprob, delta.logprobs)), calls)


def _decode_logprob(logprob: pb.TokenLogprob) -> TokenLogprob:
    return TokenLogprob(logprob.token_id, logprob.token, logprob.logprob, tuple(map(_decode_logprob, logprob.top)))


def decode_done(done: pb.Done) -> tuple[FinishReason, Usage, Timings]:
    """Why the answer ended, and what it took."""
    return (
        _FINISH_REASONS.get(done.finish_reason, FinishReason.UNKNOWN),
        _same(Usage, done.usage),
        _same(Timings, done.timings),
    )


def decode_calls(
    pieces: Sequence[ToolCallDelta], done: pb.Done
) -> tuple[tuple[ToolCall, ...], tuple[MalformedToolCall, ...]]:
    """The whole calls that pieces make, and what is malformed."""
    begun: dict[int, ToolCallDelta] = {}
    arguments: dict[int, str] = defaultdict(str)
    for piece in pieces:
        begun.setdefault(piece.index, piece)
        arguments[piece.index] += piece.arguments
    for malformed in done.malformed_tool_calls:
        if malformed.HasField("index"):
            begun.pop(malformed.index, None)
    calls = tuple(ToolCall(first.id, first.name, arguments[index]) for index, first in begun.items())
    return calls, tuple(MalformedToolCall(each.text, each.problem) for each in done.malformed_tool_calls)


def decode_count(count: pb.CountTokensResponse) -> TokenCount:
    """How an input is tokenized."""
    return TokenCount(count.count, tuple(count.token_ids), count.context_limit, count.rendered)


def decode_status(status: device_pb2.Status) -> Status:
    """The daemon's view of itself."""
    return _same(Status, status, _STATUS_READERS)


def decode_health(response: health_pb2.HealthCheckResponse) -> Health:
    """The answer to a health check."""
    return _HEALTH.get(response.status, Health.UNKNOWN)


# Fields of a status that are no plain values.
_STATUS_READERS: dict[str, Callable[[Any], object]] = {
    "state": lambda state: _STATES.get(state, State.UNKNOWN),
    "memory_level": lambda level: _MEMORY_LEVELS.get(level, MemoryLevel.UNKNOWN),
    "refusals": dict,
    "first_token_error": lambda error: _same(PredictionError, error),
    "total_error": lambda error: _same(PredictionError, error),
    "promises": lambda promises: {name: _same(Promises, each) for name, each in promises.items()},
}


def _same(kind: Callable[..., T], message: Any, readers: Mapping[str, Callable[[Any], object]] | None = None) -> T:
    """The dataclass whose fields have the names of the message's; `readers` turn those that are no plain values."""
    values = {field.name: getattr(message, field.name) for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**values | {name: read(values[name]) for name, read in (readers or {}).items()})
