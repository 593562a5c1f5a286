"""`POST /v1/chat/completions`, as OpenAI's clients send it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from bise_daemon.http.fields import AnswerFields, Fields, Ignored, Proto, invalid
from bise_proto.v1 import inference_pb2

_MODES = {
    "auto": inference_pb2.ToolChoice.AUTO,
    "none": inference_pb2.ToolChoice.NONE,
    "required": inference_pb2.ToolChoice.REQUIRED,
}
# OpenAI's newer word for it.
_ROLES = {"developer": "system"}


def _parts(value: Any) -> Any:
    return [{"type": "text", "text": value}] if isinstance(value, str) else value


def _typed(value: Any) -> Any:
    return {"type": value} if isinstance(value, str) else value


class Text(Fields):
    """A part of a content; there are no others, since the model reads text."""

    type: Literal["text"]
    text: str


class CalledFunction(Fields):
    """What a call calls."""

    name: str
    arguments: str
    parsed_arguments: Ignored = None


class Call(Fields):
    """A call an assistant made."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction
    index: Ignored = None


class ChatMessage(Fields):
    """One turn. What follows `prefix` is in answers that clients send back as they came."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[list[Text] | None, BeforeValidator(_parts)] = None
    name: str | None = None
    tool_calls: list[Call] | None = None
    tool_call_id: str | None = None
    prefix: bool | None = None
    """Of the last message, an assistant's: the answer goes on from its text (Mistral's field)."""
    refusal: Ignored = None
    annotations: Ignored = None
    parsed: Ignored = None
    audio: None = None
    function_call: None = None


class Function(Fields):
    """A function the model may call."""

    name: str
    description: str | None = None
    parameters: Proto | None = None
    strict: Ignored = None


class FunctionTool(Fields):
    """A tool; there are no others."""

    type: Literal["function"]
    function: Function


class NamedFunction(Fields):
    """The name of a function."""

    name: str


class Choice(Fields):
    """OpenAI's `tool_choice`; what is a word there is a type here."""

    type: Literal["auto", "none", "required", "function"]
    function: NamedFunction | None = None


class JsonSchema(Fields):
    """A schema and its name, which says nothing to the model."""

    name: Ignored = None
    description: Ignored = None
    schema_: Proto | None = Field(None, alias="schema")
    strict: Ignored = None


class ResponseFormat(Fields):
    """OpenAI's `response_format`."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class ChatFields(AnswerFields):
    """The whole request."""

    messages: list[ChatMessage]
    max_completion_tokens: int | None = Field(None, ge=1, le=(1 << 32) - 1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    tools: list[FunctionTool] | None = None
    tool_choice: Annotated[Choice | None, BeforeValidator(_typed)] = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    modalities: list[Literal["text"]] | None = None
    store: Ignored = None
    metadata: Ignored = None
    service_tier: Ignored = None
    safety_identifier: Ignored = None
    prompt_cache_key: Ignored = None
    prompt_cache_retention: Ignored = None
    prediction: Ignored = None

    def request(self) -> inference_pb2.ChatRequest:
        """The daemon's own request, without `bise`.

        Raises:
            RequestError: INVALID_OPTION.
        """
        options = self.options()
        if self.max_completion_tokens is not None:
            options.max_tokens = self.max_completion_tokens
        options.logprobs, options.top_logprobs = bool(self.logprobs), self.top_logprobs or 0
        if self.response_format is not None and (form := _format(self.response_format)) is not None:
            options.format.CopyFrom(form)
        request = inference_pb2.ChatRequest(
            messages=_messages(self.messages),
            options=options,
            tools=[_tool(place, tool.function) for place, tool in enumerate(self.tools or ())],
            continue_final_message=bool(self.messages and self.messages[-1].prefix),
        )
        if self.tool_choice is not None:
            request.tool_choice.CopyFrom(_choice(self.tool_choice))
        if self.parallel_tool_calls is False:
            request.tool_choice.single = True
        return request


def _messages(messages: Sequence[ChatMessage]) -> list[inference_pb2.Message]:
    # A result says whose call it answers by id alone; some chat formats want the tool's name.
    called = {call.id: call.function.name for message in messages for call in message.tool_calls or ()}
    return [
        inference_pb2.Message(
            role=_ROLES.get(message.role, message.role),
            content="".join(part.text for part in message.content or ()),
            tool_calls=[
                inference_pb2.ToolCall(id=call.id, name=call.function.name, arguments=call.function.arguments)
                for call in message.tool_calls or ()
            ],
            tool_call_id=message.tool_call_id,
            name=message.name or called.get(message.tool_call_id or "") if message.role == "tool" else None,
        )
        for message in messages
    ]


def _tool(place: int, function: Function) -> inference_pb2.Tool:
    return inference_pb2.Tool(
        name=function.name,
        description=function.description,
        parameters=None
        if function.parameters is None
        else _text(f"tools[{place}].function.parameters", function.parameters),
    )


def _choice(choice: Choice) -> inference_pb2.ToolChoice:
    if choice.type != "function":
        return inference_pb2.ToolChoice(mode=_MODES[choice.type])
    if choice.function is None:
        raise invalid("tool_choice.function", "expected the function's name beside type function, got nothing")
    return inference_pb2.ToolChoice(name=choice.function.name)


def _format(form: ResponseFormat) -> inference_pb2.Format | None:
    if form.type == "text":
        return None
    if form.type == "json_object":
        return inference_pb2.Format(json_object=True)
    if form.json_schema is None or form.json_schema.schema_ is None:
        raise invalid("response_format.json_schema.schema", "expected a JSON Schema beside type json_schema")
    return inference_pb2.Format(json_schema=_text("response_format.json_schema.schema", form.json_schema.schema_))


def _text(field: str, schema: Proto) -> str:
    """A schema as it is sent on: in the order of its keys, which is that of the answer's."""
    try:
        return json.dumps(schema, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError as error:
        raise invalid(field, f"expected numbers that JSON has: {error}") from error
