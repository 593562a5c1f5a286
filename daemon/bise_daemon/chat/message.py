"""Chat messages as the daemon knows them, and the prompt that a chat format makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from bise_daemon.chat.calls.call import CallGrammar, CallReader, NoCalls
from bise_daemon.errors import Reason, RequestError

MAX_QUOTED_CHARS = 300  # of others' error texts, which can quote whole contents; a gRPC status has little room


class Role(StrEnum):
    """Who speaks."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that an assistant made; `arguments` by name."""

    id: str
    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn, unchecked.

    Attributes:
        tool_calls: of an assistant, the calls it made.
        tool_call_id: of a tool, the call whose result this is; `name` is the tool's.
    """

    role: str
    content: str
    tool_calls: Sequence[ToolCall] = ()
    tool_call_id: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a chat format makes of a conversation.

    Attributes:
        token_ids: the model's input.
        text: the same as text, control tokens spelled out; for people to inspect, not to encode again.
        calls: tells calls and text of the answer apart; good for one answer.
        grammar: what calls in the answer have to be; None where there are no tools to call.
        dropped_messages, dropped_tokens: what was left out to make it fit.
    """

    token_ids: list[int]
    text: str
    calls: CallReader = field(default_factory=NoCalls)
    grammar: CallGrammar | None = None
    dropped_messages: int = 0
    dropped_tokens: int = 0


def invalid_message(field: str, problem: str) -> RequestError:
    """INVALID_MESSAGE for `field`, for instance `messages[2].content`."""
    return RequestError(Reason.INVALID_MESSAGE, f"{field}: {problem}", numbers={"field": field})
