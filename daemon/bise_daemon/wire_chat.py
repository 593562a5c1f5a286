"""Conversations and their tools as they come from the wire."""

from __future__ import annotations

from bise_daemon.chat.conversation import Conversation
from bise_daemon.chat.json_object import parse_object
from bise_daemon.chat.message import Message, ToolCall, invalid_message
from bise_daemon.chat.tool import Tool, ToolChoice, ToolMode
from bise_proto.v1 import inference_pb2

_TOOL_MODES = {
    inference_pb2.ToolChoice.AUTO: ToolMode.AUTO,
    inference_pb2.ToolChoice.NONE: ToolMode.NONE,
    inference_pb2.ToolChoice.REQUIRED: ToolMode.REQUIRED,
}


def to_conversation(chat: inference_pb2.ChatRequest | inference_pb2.Messages) -> Conversation:
    """What is to be answered; only JSON in it is checked here.

    Raises:
        RequestError: INVALID_MESSAGE, naming the field.
    """
    return Conversation(
        [_message(message, f"messages[{index}]") for index, message in enumerate(chat.messages)],
        [_tool(tool, f"tools[{index}]") for index, tool in enumerate(chat.tools)],
        _tool_choice(chat.tool_choice),
        chat.continue_final_message,
    )


def _message(message: inference_pb2.Message, where: str) -> Message:
    calls = [
        ToolCall(call.id, call.name, parse_object(call.arguments or "{}", f"{where}.tool_calls[{number}].arguments"))
        for number, call in enumerate(message.tool_calls)
    ]
    return Message(message.role, message.content, calls, message.tool_call_id, message.name)


def _tool(tool: inference_pb2.Tool, where: str) -> Tool:
    if not tool.parameters:
        return Tool(tool.name, tool.description)
    return Tool(tool.name, tool.description, parse_object(tool.parameters, f"{where}.parameters"))


def _tool_choice(choice: inference_pb2.ToolChoice) -> ToolChoice:
    if choice.WhichOneof("choice") == "name":
        return ToolChoice(ToolMode.REQUIRED, choice.name, choice.single)
    if choice.mode not in _TOOL_MODES:
        modes = ", ".join(inference_pb2.ToolChoice.Mode.keys())
        raise invalid_message("tool_choice.mode", f"expected one of {modes}, got {choice.mode}.")
    return ToolChoice(_TOOL_MODES[choice.mode], "", choice.single)
