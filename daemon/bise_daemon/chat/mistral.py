"""Chat in Mistral's own instruct encoding, by mistral-common: contents never become control tokens."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from mistral_common.exceptions import InvalidToolException, InvalidToolSchemaException, MistralCommonException
from mistral_common.protocol.instruct import messages as turns
from mistral_common.protocol.instruct import tool_calls
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.tokens.tokenizers.base import SpecialTokenPolicy, TokenizerVersion
from mistral_common.utils.json_utils import validate_json_schema_by_draft7
from pydantic import ValidationError

from bise_daemon.chat.calls.mistral import ARGS, CALL_ID, CALLS, ListedCalls, NamedCalls
from bise_daemon.chat.calls.syntax import CallSyntax, prompt_of
from bise_daemon.chat.conversation import Conversation, check_conversation
from bise_daemon.chat.message import MAX_QUOTED_CHARS, Message, Prompt, Role, ToolCall, invalid_message
from bise_daemon.chat.mistral_tokenizer import MistralCommonTokenizer
from bise_daemon.chat.tool import Tool, unsupported_tools

_Turn = turns.SystemMessage | turns.UserMessage | turns.AssistantMessage | turns.ToolMessage

_NINE = re.compile("[A-Za-z0-9]{9}")
# What the library raises beside its own exceptions: on arguments it can't parse or encode, on schemas it can't check.
_LIBRARY_ERRORS = (MistralCommonException, ValidationError, ValueError, RecursionError, OverflowError)


def _call(call: ToolCall) -> tool_calls.ToolCall:
    function = tool_calls.FunctionCall(name=call.name, arguments=json.dumps(call.arguments))
    return tool_calls.ToolCall(id=call.id, function=function)


def _assistant(message: Message) -> _Turn:
    calls = [_call(call) for call in message.tool_calls] or None
    return turns.AssistantMessage(content=message.content or None, tool_calls=calls)


_TURNS: dict[str, Callable[[Message], _Turn]] = {
    Role.SYSTEM: lambda message: turns.SystemMessage(content=message.content),
    Role.USER: lambda message: turns.UserMessage(content=message.content),
    Role.ASSISTANT: _assistant,
    Role.TOOL: lambda message: turns.ToolMessage(
        content=message.content, tool_call_id=message.tool_call_id, name=message.name or None
    ),
}


class MistralChat:
    """The layout follows the tokenizer file's version, for instance [SYSTEM_PROMPT] and [INST] from v7 on.

    Attributes:
        call_syntax: how the model writes calls; None for v1, which has no tools.
    """

    def __init__(self, tokenizer: MistralCommonTokenizer) -> None:
        self._mistral = tokenizer.mistral
        self._version = tokenizer.mistral.version
        self.call_syntax = _syntax(tokenizer)

    def encode(self, conversation: Conversation) -> Prompt:
        """The prompt for the assistant's next turn.

        Raises:
            RequestError: INVALID_MESSAGE, naming the field, or TOOLS_UNSUPPORTED.
        """
        check_conversation(conversation)
        if self.call_syntax is None and conversation.speaks_of_tools:
            raise unsupported_tools(f"a tokenizer of version {self._version.value}")
        self._check_ids(conversation)
        messages = [_TURNS[message.role](message) for message in conversation.messages]
        if conversation.continues and isinstance(last := messages[-1], turns.AssistantMessage):
            last.prefix = True
        tools = [_tool(tool, f"tools[{index}]") for index, tool in enumerate(conversation.offered)]
        try:
            request: ChatCompletionRequest[_Turn] = ChatCompletionRequest(messages=messages, tools=tools or None)
            token_ids = list(self._mistral.encode_chat_completion(request).tokens)
        except _LIBRARY_ERRORS as error:
            of_tools = isinstance(error, InvalidToolException | InvalidToolSchemaException)
            raise invalid_message(
                "tools" if of_tools else "messages",
                f"expected turns in Mistral's instruct format, but mistral-common says: {_problem(error)}. "
                "Send an optional system message, then user and assistant in alternation, calls with their results.",
            ) from error
        text = self._mistral.decode(token_ids, SpecialTokenPolicy.KEEP)
        return prompt_of(token_ids, text, conversation, self.call_syntax)

    def _check_ids(self, conversation: Conversation) -> None:
        """Ids of calls are part of the prompt up to v11, and were nine letters and digits in training."""
        if not TokenizerVersion.v3 <= self._version <= TokenizerVersion.v11:
            return
        for index, message in enumerate(conversation.messages):
            ids = {f"tool_calls[{number}].id": call.id for number, call in enumerate(message.tool_calls)}
            if message.role == Role.TOOL:
                ids["tool_call_id"] = message.tool_call_id
            for field, call_id in ids.items():
                if not _NINE.fullmatch(call_id):
                    raise invalid_message(
                        f"messages[{index}].{field}",
                        f"expected nine of A-Z, a-z and 0-9, as this model's calls have, got {call_id!r}.",
                    )


def _syntax(tokenizer: MistralCommonTokenizer) -> CallSyntax | None:
    version = tokenizer.mistral.version
    if version < TokenizerVersion.v2:
        return None
    openings = set(tokenizer.texts_of(CALLS))
    if version <= TokenizerVersion.v7:
        return CallSyntax(ListedCalls, tokenizer.texts_of(CALLS), openings)
    marks = (CALLS, CALL_ID, ARGS) if version <= TokenizerVersion.v11 else (CALLS, ARGS)
    return CallSyntax(NamedCalls, tokenizer.texts_of(*marks), openings)


def _tool(tool: Tool, where: str) -> tool_calls.Tool:
    parameters = dict(tool.parameters)
    try:
        validate_json_schema_by_draft7(parameters)
    except _LIBRARY_ERRORS as error:
        raise invalid_message(f"{where}.parameters", f"expected a JSON Schema, got: {_problem(error)}.") from error
    function = tool_calls.Function(name=tool.name, description=tool.description, parameters=parameters)
    return tool_calls.Tool(function=function)


def _problem(error: Exception) -> str:
    return (getattr(error, "message", "") or str(error) or type(error).__name__)[:MAX_QUOTED_CHARS]
