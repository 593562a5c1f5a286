"""What a FakeDaemon was asked, as its requests tell it: in the words of the SDK."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from google.protobuf import json_format

from bise.options import CHOICES, UNITS
from bise.testing.script import Request
from bise.tools import Tool
from bise.wire import decode_messages
from bise_proto.v1 import inference_pb2 as pb

_WORDS = {name: {number: word for word, number in words.items()} for name, words in CHOICES.items()}
_UNITS = {number: word for word, number in UNITS.items()}


def record(method: str, options: pb.Options, *, prompt: str = "", ids: tuple[int, ...] = ()) -> Request:
    """A generation as it was asked for."""
    sent = json_format.MessageToDict(options, preserving_proto_field_name=True)
    sampling = {field.name: value for field, value in options.sampling.ListFields()}
    if "logit_bias" in sampling:
        sampling["logit_bias"] = dict(sampling["logit_bias"])
    chosen: dict[str, object] = {name: words[getattr(options, name)] for name, words in _WORDS.items() if name in sent}
    if options.HasField("chunking"):
        chosen["chunking"] = _UNITS[options.chunking.unit]
    if options.chunking.max_wait_ms:
        chosen["max_wait"] = options.chunking.max_wait_ms / 1000
    plain = {name: value for name, value in sent.items() if name not in ("budget", "sampling", "format", "chunking")}
    budget = {field.name: value for field, value in options.budget.ListFields()}
    return Request(method, prompt=prompt, token_ids=ids, options=plain | _format(sent) | sampling | chosen, **budget)


def record_chat(method: str, request: pb.ChatRequest) -> Request:
    """The same of messages."""
    return replace(
        record(method, request.options),
        messages=decode_messages(request.messages),
        tools=tuple(Tool(tool.name, tool.description, json.loads(tool.parameters)) for tool in request.tools),
        tool_choice=request.tool_choice.name or pb.ToolChoice.Mode.Name(request.tool_choice.mode).lower(),
        parallel_tool_calls=not request.tool_choice.single,
        continue_final_message=request.continue_final_message,
    )


def _format(sent: Mapping[str, Any]) -> dict[str, Any]:
    """The format by the option's name."""
    given = dict(sent.get("format", {}))
    return {"choices": given["choices"].get("texts", [])} if "choices" in given else given
