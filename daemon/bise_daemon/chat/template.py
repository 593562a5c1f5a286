"""A checkpoint's chat template: messages to text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import jinja2
from jinja2 import meta

from bise_daemon.chat.conversation import Conversation
from bise_daemon.chat.json_object import strings_of
from bise_daemon.chat.message import MAX_QUOTED_CHARS, Message, invalid_message
from bise_daemon.chat.sandbox import ALLOWANCE, Allowance, Sandbox

FINAL = "\ufdd2"  # ends the content that an answer goes on from; a noncharacter, as the guards of `control.py`
MAX_TEMPLATE_BYTES = 256 << 10
_ROOM_CHARS = 1 << 20  # what a template may write beside four times the contents

# What a template can raise; anything else is our own bug.
_TEMPLATE_ERRORS = (
    jinja2.TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)


class ChatTemplate:
    """Renders messages as the checkpoint's template says, with the names the field's templates expect.

    These are `messages`, `add_generation_prompt`, `continue_final_message`, `tools` (none without any), `documents`
    (none), the variables given, `raise_exception`, `strftime_now`, and Jinja's filters, with a `tojson` that keeps HTML
    characters. Messages and tools have the keys of transformers' `apply_chat_template`.

    Attributes:
        takes_tools: the template does something with `tools`.
    """

    def __init__(
        self, source: str, *, variables: Mapping[str, str], now: Callable[[], datetime] = datetime.now
    ) -> None:
        """
        Args:
            source: the template, at most 256 KiB.
            variables: more names for the template, for instance `bos_token`.
            now: the clock behind `strftime_now`.

        Raises:
            ValueError: the template is too large or is not valid Jinja.
        """
        if (size_bytes := len(source.encode("utf-8"))) > MAX_TEMPLATE_BYTES:
            raise ValueError(f"expected a chat template of at most {MAX_TEMPLATE_BYTES} bytes, got {size_bytes}")
        try:
            sandbox = Sandbox(now)
            self._template = sandbox.counted(source)
            self.takes_tools = "tools" in meta.find_undeclared_variables(sandbox.parse(source))
        except jinja2.TemplateSyntaxError as error:
            raise ValueError(f"expected a Jinja template, got in line {error.lineno}: {error.message}") from error
        except (RecursionError, SyntaxError, MemoryError) as error:
            raise ValueError(f"expected a Jinja template that compiles, got {type(error).__name__}") from error
        self._variables = dict(variables)

    def render(self, conversation: Conversation) -> str:
        """The chat as text, ready for the assistant's answer, or up to where its last text ends.

        Raises:
            RequestError: INVALID_MESSAGE, the template refuses the messages, fails on them, or spends too much.
        """
        messages = [_turn(message) for message in conversation.messages]
        tools = [
            _function(tool.name, description=tool.description, parameters=tool.parameters)
            for tool in conversation.offered
        ]
        given_chars = sum(map(len, strings_of([messages, tools])))
        if conversation.continues:
            messages[-1]["content"] += FINAL + " "
        names = {
            **self._variables,
            "messages": messages,
            "add_generation_prompt": not conversation.continues,
            "continue_final_message": conversation.continues,
            "tools": tools or None,
            "documents": None,
            ALLOWANCE: Allowance(_ROOM_CHARS + 4 * given_chars),
        }
        text = self._generate(names)
        return _up_to_final(text) if conversation.continues else text

    def _generate(self, names: Mapping[str, Any]) -> str:
        allowance: Allowance = names[ALLOWANCE]
        pieces: list[str] = []
        try:
            for piece in self._template.generate(names):
                allowance.write(piece)
                pieces.append(piece)
        except _TEMPLATE_ERRORS as error:
            problem = (str(error) or type(error).__name__)[:MAX_QUOTED_CHARS]
            raise invalid_message(
                "messages",
                f"expected turns that the model's chat template takes, got: {problem}. "
                "Change the turns (most templates want user and assistant in alternation), or use Generate.",
            ) from error
        return "".join(pieces)


def _turn(message: Message) -> dict[str, Any]:
    turn: dict[str, Any] = {"role": str(message.role), "content": message.content}
    # Templates ask whether these are there at all.
    if message.tool_calls:
        turn["tool_calls"] = [
            {"id": call.id, **_function(call.name, arguments=call.arguments)} for call in message.tool_calls
        ]
    if message.tool_call_id:
        turn["tool_call_id"] = message.tool_call_id
    if message.name:
        turn["name"] = message.name
    return turn


def _function(name: str, **values: object) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **values}}


def _up_to_final(text: str) -> str:
    """The text up to the mark of the last content's end; where the template trims contents, trimmed."""
    begun, mark, rest = text.rpartition(FINAL)
    if not mark:
        raise invalid_message(
            "continue_final_message",
            "expected a chat template that writes the last message's content as it is, got one that does not. "
            "Leave continue_final_message out.",
        )
    begun = begun.replace(FINAL + " ", "").replace(FINAL, "")  # where it is written more than once
    return begun if rest.startswith(" ") else begun.rstrip()
