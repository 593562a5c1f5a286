"""Turns of a conversation, and the calls in them: frozen values, free of protobuf."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call the model made, or was said to have made; `arguments` is the text of a JSON object."""

    id: str
    name: str
    arguments: str = "{}"

    @property
    def values(self) -> dict[str, Any]:
        """The arguments by name."""
        values: dict[str, Any] = json.loads(self.arguments)
        return values


@dataclass(frozen=True, slots=True)
class MalformedToolCall:
    """What the model wrote for a call, but is none."""

    text: str
    problem: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of a call; those with the same index make one.

    Attributes:
        id: with the first piece only, as is `name`.
        arguments: the next part of the JSON object.
    """

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    Attributes:
        role: "system", "user", "assistant" or "tool".
        tool_calls: of an assistant, the calls it made.
        tool_call_id: of a tool, the call whose result `content` is; `name` is the tool's.
    """

    role: str
    content: str = ""
    tool_calls: Sequence[ToolCall] = ()
    tool_call_id: str = ""
    name: str = ""


# A plain text is one user message.
Conversation = str | Sequence[Message | Mapping[str, Any]]
