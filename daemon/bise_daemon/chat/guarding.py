"""A conversation with all that others wrote in it marked, so that a template's own words can be told from it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from bise_daemon.chat.control import CLOSE, OPEN, ControlTokens
from bise_daemon.chat.conversation import Conversation
from bise_daemon.chat.json_object import strings_of
from bise_daemon.chat.message import Message, ToolCall, invalid_message
from bise_daemon.chat.template import FINAL
from bise_daemon.chat.tool import Tool

_RESERVED = re.compile(f"[{OPEN}{CLOSE}{FINAL}]")


class _Guarded(dict[str, Any]):
    """An object with marked keys, which templates still find by the unmarked ones: `parameters.properties`."""

    def __init__(self, values: dict[str, Any], controls: ControlTokens) -> None:
        super().__init__({controls.guard(key): _guard(value, controls) for key, value in values.items()})
        self._controls = controls

    def __missing__(self, key: Any) -> Any:
        guarded = self._controls.guard(key) if isinstance(key, str) else key
        if guarded == key:
            raise KeyError(key)
        return self[guarded]

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or (isinstance(key, str) and super().__contains__(self._controls.guard(key)))

    def get(self, key: str, default: Any = None) -> Any:
        try:
            return self[key]
        except KeyError:
            return default


def guard(conversation: Conversation, controls: ControlTokens) -> Conversation:
    """The conversation with marked contents, names, descriptions, schemas, arguments and ids."""

    def of_call(call: ToolCall) -> ToolCall:
        return ToolCall(controls.guard(call.id), controls.guard(call.name), _guard(call.arguments, controls))

    def of_message(message: Message) -> Message:
        return replace(
            message,
            content=controls.guard(message.content),
            tool_calls=[of_call(call) for call in message.tool_calls],
            tool_call_id=controls.guard(message.tool_call_id),
            name=controls.guard(message.name),
        )

    def of_tool(tool: Tool) -> Tool:
        return Tool(controls.guard(tool.name), controls.guard(tool.description), _guard(tool.parameters, controls))

    messages, tools = conversation.messages, conversation.tools
    return replace(conversation, messages=[*map(of_message, messages)], tools=[*map(of_tool, tools)])


def check_reserved(conversation: Conversation) -> None:
    """Proves that the characters the marks are made of are free.

    Raises:
        RequestError: INVALID_MESSAGE, naming the field.
    """
    for field, text in _texts(conversation):
        if found := _RESERVED.search(text):
            raise invalid_message(field, f"expected text without the noncharacter U+{ord(found[0]):04X}. Remove it.")


def _texts(conversation: Conversation) -> Iterator[tuple[str, str]]:
    """All that others wrote, by field."""
    for index, message in enumerate(conversation.messages):
        where = f"messages[{index}]"
        yield f"{where}.content", message.content
        yield f"{where}.tool_call_id", message.tool_call_id
        for number, call in enumerate(message.tool_calls):
            yield f"{where}.tool_calls[{number}].id", call.id
            for text in strings_of(call.arguments):
                yield f"{where}.tool_calls[{number}].arguments", text
    for index, tool in enumerate(conversation.tools):
        yield f"tools[{index}].description", tool.description
        for text in strings_of(tool.parameters):
            yield f"tools[{index}].parameters", text


def _guard(value: Any, controls: ControlTokens) -> Any:
    """A JSON value with its texts marked."""
    match value:
        case str():
            return controls.guard(value)
        case dict():
            return _Guarded(value, controls)
        case list():
            return [_guard(item, controls) for item in value]
    return value
