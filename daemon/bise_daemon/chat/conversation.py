"""A conversation to be answered: its turns, the tools at hand, and what every chat format needs of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bise_daemon.chat.message import Message, Role, invalid_message
from bise_daemon.chat.tool import Tool, ToolChoice, ToolMode, check_name, check_tools

MAX_MESSAGES = 1024
MAX_CALLS = 128
_MAX_ID_CHARS = 64


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a chat format makes a prompt of.

    Attributes:
        continues: the last message is an assistant's, and the answer goes on from its text.
    """

    messages: Sequence[Message]
    tools: Sequence[Tool] = ()
    choice: ToolChoice = field(default_factory=ToolChoice)
    continues: bool = False

    @property
    def offered(self) -> Sequence[Tool]:
        """The tools the model is told of: none where it may call none."""
        return () if self.choice.mode is ToolMode.NONE else self.tools

    @property
    def speaks_of_tools(self) -> bool:
        """Whether a chat format has to know about tools to write it."""
        return bool(self.offered) or any(message.tool_calls or message.role == Role.TOOL for message in self.messages)


def check_conversation(conversation: Conversation) -> None:
    """Proves what every chat format needs: 1 to 1,024 messages of known roles that end with a turn to be answered,
    results that belong to calls, and tools and choice as `check_tools` wants them.

    Raises:
        RequestError: INVALID_MESSAGE, naming the field.
    """
    messages = conversation.messages
    if not 1 <= len(messages) <= MAX_MESSAGES:
        raise invalid_message(
            "messages", f"expected 1 to {MAX_MESSAGES} messages, got {len(messages)}. Send the turns to be answered."
        )
    roles = ", ".join(Role)
    open_calls: set[str] = set()
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if message.role not in set(Role):
            raise invalid_message(f"{where}.role", f"expected one of {roles}; got {message.role[:40]!r}.")
        if message.role == Role.TOOL:
            _check_result(message, open_calls, where)
        elif message.tool_call_id:
            raise invalid_message(f"{where}.tool_call_id", f"expected one for tools only, got one for {message.role}.")
        if message.name:
            check_name(message.name, f"{where}.name")
        if message.tool_calls:
            open_calls = _check_calls(message, where)
    _check_last(messages[-1], f"messages[{len(messages) - 1}]", continues=conversation.continues)
    check_tools(conversation.tools, conversation.choice)


def _check_calls(message: Message, where: str) -> set[str]:
    """Proves an assistant's calls; returns their ids."""
    if message.role != Role.ASSISTANT:
        raise invalid_message(
            f"{where}.tool_calls", f"expected calls of an assistant only, got some of {message.role}."
        )
    if len(message.tool_calls) > MAX_CALLS:
        raise invalid_message(
            f"{where}.tool_calls", f"expected at most {MAX_CALLS} calls, got {len(message.tool_calls)}."
        )
    ids: set[str] = set()
    for number, call in enumerate(message.tool_calls):
        if not 1 <= len(call.id) <= _MAX_ID_CHARS or call.id in ids:
            raise invalid_message(
                f"{where}.tool_calls[{number}].id",
                f"expected another id of 1 to {_MAX_ID_CHARS} characters for each call, got {call.id[:80]!r}.",
            )
        ids.add(call.id)
        check_name(call.name, f"{where}.tool_calls[{number}].name")
    return ids


def _check_result(message: Message, open_calls: set[str], where: str) -> None:
    """Proves that a result belongs to a call before it, and is the first for it."""
    if message.tool_call_id not in open_calls:
        raise invalid_message(
            f"{where}.tool_call_id",
            f"expected the id of a call by the assistant before it, without a result yet; "
            f"got {message.tool_call_id[:80]!r}. Send the assistant's message with its tool_calls first.",
        )
    open_calls.remove(message.tool_call_id)


def _check_last(last: Message, where: str, *, continues: bool) -> None:
    if continues:
        if last.role != Role.ASSISTANT or last.tool_calls or not last.content.strip():
            raise invalid_message(
                where,
                f"expected an assistant's text to go on from, got {last.role}. "
                "Append the text, or leave continue_final_message out.",
            )
    elif last.role not in (Role.USER, Role.TOOL):
        raise invalid_message(
            f"{where}.role",
            f"expected the last message to be the user's or a tool's, got {last.role}. "
            "Append the user's turn, or have it continued with continue_final_message.",
        )
