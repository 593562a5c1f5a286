"""Prompts with tools are those that transformers renders from the same templates."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from bise_daemon.chat.conversation import Conversation, check_conversation
from bise_daemon.chat.message import Message, ToolCall
from bise_daemon.chat.template import ChatTemplate
from bise_daemon.chat.tool import Tool
from bise_daemon.errors import RequestError
from golden import conversations

FOLDER = Path(conversations.__file__).parent / "chats"
RECORDED = json.loads((FOLDER / "chats.json").read_text(encoding="utf-8"))
NOW = datetime(2026, 1, 2)


def conversation_of(given: dict[str, Any]) -> Conversation:
    """A conversation in transformers' form as the daemon's."""
    messages = [
        Message(
            each["role"],
            each["content"],
            [ToolCall(call["id"], **call["function"]) for call in each.get("tool_calls", ())],
            each.get("tool_call_id", ""),
            each.get("name", ""),
        )
        for each in given["messages"]
    ]
    tools = [Tool(**tool["function"]) for tool in given.get("tools", ())]
    return Conversation(messages, tools, continues=given.get("continue_final_message", False))


def rendered(template: str, given: dict[str, Any]) -> str | None:
    conversation = conversation_of(given)
    check_conversation(conversation)
    try:
        return ChatTemplate(template, variables=RECORDED["tokens"], now=lambda: NOW).render(conversation)
    except RequestError:
        return None


@pytest.mark.parametrize("name", conversations.CONVERSATIONS)
@pytest.mark.parametrize("stem", RECORDED["prompts"])
def test_prompts_are_transformers(stem: str, name: str) -> None:
    template = (FOLDER / f"{stem}.jinja").read_text(encoding="utf-8")
    assert rendered(template, conversations.CONVERSATIONS[name]) == RECORDED["prompts"][stem][name]
