"""Tools that a model may ask for, the calls it makes, and what it may choose."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from bise_daemon.chat.json_object import JsonObject
from bise_daemon.chat.message import invalid_message
from bise_daemon.errors import Reason, RequestError

MAX_TOOLS = 128
MAX_DESCRIPTION_CHARS = 8192

_NAME = re.compile("[A-Za-z0-9_-]{1,64}")  # fullmatch: "$" would let a newline pass


class ToolMode(StrEnum):
    """How free the model is to call."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """What the model may choose.

    Attributes:
        name: the only tool it may call; with it, `mode` is REQUIRED.
        single: at most one call in an answer.
    """

    mode: ToolMode = ToolMode.AUTO
    name: str = ""
    single: bool = False


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the model may ask the caller to run; `parameters` is the JSON Schema of an object."""

    name: str
    description: str = ""
    parameters: JsonObject = field(default_factory=lambda: {"type": "object", "properties": {}})


def check_name(name: str, where: str) -> None:
    """Proves a tool's name: letters, digits, "_" and "-" of ASCII, at most 64.

    Raises:
        RequestError: INVALID_MESSAGE, naming the field.
    """
    if not _NAME.fullmatch(name):
        raise invalid_message(
            where, f'expected 1 to 64 of the characters A-Z, a-z, 0-9, "_" and "-"; got {name[:80]!r}.'
        )


def check_tools(tools: Sequence[Tool], choice: ToolChoice) -> None:
    """Proves tools and choice: names that are told apart, schemas of objects, a choice there is.

    Raises:
        RequestError: INVALID_MESSAGE, naming the field.
    """
    if len(tools) > MAX_TOOLS:
        raise invalid_message("tools", f"expected at most {MAX_TOOLS} tools, got {len(tools)}. Send fewer.")
    names: set[str] = set()
    for index, tool in enumerate(tools):
        where = f"tools[{index}]"
        check_name(tool.name, f"{where}.name")
        if tool.name in names:
            raise invalid_message(f"{where}.name", f"expected another name for each tool, got {tool.name!r} again.")
        names.add(tool.name)
        if len(tool.description) > MAX_DESCRIPTION_CHARS:
            raise invalid_message(
                f"{where}.description",
                f"expected at most {MAX_DESCRIPTION_CHARS} characters, got {len(tool.description)}. Shorten it.",
            )
        _check_schema(tool.parameters, f"{where}.parameters")
    if choice.name and choice.name not in names:
        raise invalid_message(
            "tool_choice.name",
            f"expected one of the tools {', '.join(sorted(names)) or '(none)'}; got {choice.name[:80]!r}.",
        )
    if choice.mode is ToolMode.REQUIRED and not tools:
        raise invalid_message("tool_choice", "expected tools to choose from, got none. Send tools.")


def _check_schema(schema: JsonObject, where: str) -> None:
    if schema.get("type", "object") != "object" or not isinstance(schema.get("properties", {}), dict):
        raise invalid_message(
            where, 'expected the JSON Schema of an object: {"type": "object", "properties": {…}}; got another type.'
        )


def unsupported_tools(what: str) -> RequestError:
    """The refusal of tools by `what` there is for a chat format."""
    return RequestError(
        Reason.TOOLS_UNSUPPORTED,
        f"tools: expected a model that was trained to call tools in a way known here, got one with {what}. "
        "Leave out tools, their calls and results, or serve another model.",
        numbers={"field": "tools"},
    )
