"""Answers of `/v1/chat/completions`."""

from __future__ import annotations

from collections.abc import Sequence

from bise_daemon.http.answer import logprob, token_text
from bise_daemon.http.json_text import Json
from bise_proto.v1 import inference_pb2


class ChatForm:
    """An assistant's message, whole or in deltas."""

    id_prefix = "chatcmpl-"
    whole_object = "chat.completion"
    chunk_object = "chat.completion.chunk"

    def opening(self) -> Json | None:
        """Who speaks."""
        return _choice({"role": "assistant", "content": ""})

    def piece(self, delta: inference_pb2.Delta) -> Json:
        """Some text, parts of calls, or both."""
        message: Json = {}
        if delta.text or not delta.tool_calls:
            message["content"] = delta.text
        if delta.tool_calls:
            message["tool_calls"] = [_call_delta(call) for call in delta.tool_calls]
        return _choice(message, _logprobs([delta]))

    def ending(self, finish_reason: str) -> Json:
        """Nothing more."""
        return _choice({}, finish_reason=finish_reason)

    def whole(self, deltas: Sequence[inference_pb2.Delta], finish_reason: str) -> Json:
        """The message."""
        text = "".join(delta.text for delta in deltas)
        message: Json = {"role": "assistant", "content": text, "refusal": None}
        if calls := _calls(deltas):
            message |= {"content": text or None, "tool_calls": calls}
        return {"index": 0, "message": message, "logprobs": _logprobs(deltas), "finish_reason": finish_reason}


def _choice(delta: Json, logprobs: Json | None = None, finish_reason: str | None = None) -> Json:
    return {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}


def _call_delta(call: inference_pb2.ToolCallDelta) -> Json:
    function: Json = {"arguments": call.arguments}
    if not call.id:
        return {"index": call.index, "function": function}
    return {"index": call.index, "id": call.id, "type": "function", "function": {"name": call.name, **function}}


def _calls(deltas: Sequence[inference_pb2.Delta]) -> list[Json]:
    calls: dict[int, inference_pb2.ToolCall] = {}
    for part in (call for delta in deltas for call in delta.tool_calls):
        call = calls.setdefault(part.index, inference_pb2.ToolCall())
        call.id, call.name = call.id or part.id, call.name or part.name
        call.arguments += part.arguments
    return [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for _, call in sorted(calls.items())
    ]


def _logprobs(deltas: Sequence[inference_pb2.Delta]) -> Json | None:
    entries = [entry for delta in deltas for entry in delta.logprobs]
    if not entries:
        return None
    return {
        "content": [{**_token(entry), "top_logprobs": [_token(other) for other in entry.top]} for entry in entries],
        "refusal": None,
    }


def _token(entry: inference_pb2.TokenLogprob) -> Json:
    return {"token": token_text(entry), "logprob": logprob(entry), "bytes": list(entry.token)}
