"""Calls as grammars: the layouts that `CallParser`s read, with arguments held to their schemas."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bise_daemon.chat.calls.llama import LlamaCalls
from bise_daemon.chat.calls.mistral import ListedCalls, NamedCalls
from bise_daemon.chat.calls.parser import CallParser
from bise_daemon.chat.calls.tagged import TaggedCalls
from bise_daemon.chat.tool import Tool
from bise_daemon.grammar.format import SPACED_JSON

# Of a schema that says no more than this, objects are taken to have the properties described, and no others.
_PLAIN = frozenset({"$defs", "$schema", "description", "properties", "required", "title", "type"})


@dataclass(frozen=True, slots=True)
class _Layout:
    """Lark of an answer of calls; `%s` in `before` is the tool's name. No `between`: there is one call."""

    opening: str
    before: str
    behind: str
    between: str | None
    closing: str


_LAYOUTS: dict[type[CallParser], _Layout] = {
    NamedCalls: _Layout("", '<TOOL_CALLS> "%s" <ARGS>', "", "", ""),
    ListedCalls: _Layout(
        '<TOOL_CALLS> "["',
        r'"{\"name\": \"%s\", \"arguments\": "',
        r'(", \"id\": \"" /[A-Za-z0-9]{9}/ "\"")? "}"',
        '", "',
        '"]"',
    ),
    TaggedCalls: _Layout("", r'"<tool_call>\n{\"name\": \"%s\", \"arguments\": "', r'"}\n</tool_call>"', r'"\n"', ""),
    LlamaCalls: _Layout("", r'"{\"name\": \"%s\", \"parameters\": "', '"}"', None, ""),
}


def grammar_of(parser: type[CallParser], tools: Sequence[Tool], *, single: bool) -> str:
    """What an answer of nothing but calls of these tools is, in llguidance's form of Lark.

    Args:
        tools: at least one.
        single: there is one call.
    """
    layout = _LAYOUTS[parser]
    more = "" if single or layout.between is None else f"({layout.between} call)*"
    rules = [
        f"start: {layout.opening} call {more} {layout.closing}",
        "call: " + " | ".join(f"call_{index}" for index in range(len(tools))),
    ]
    for index, tool in enumerate(tools):
        schema = json.dumps(_schema(tool))
        rules.append(f"call_{index}: {layout.before % tool.name} %json {schema} {layout.behind}")
    return "\n".join(rules)


def _schema(tool: Tool) -> dict[str, Any]:
    schema = {**tool.parameters, "type": "object", "x-guidance": SPACED_JSON}
    properties = tool.parameters.get("properties")
    if properties is not None and tool.parameters.keys() <= _PLAIN:
        schema["additionalProperties"] = False
    return schema
