"""What a program with LlamaIndex does, with the door's address and a model's name; prints what it got as JSON."""

from __future__ import annotations

import json
import sys

import openai
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike


def switch(on: bool) -> str:
    """Turn the light on or off."""
    return f"The light is {'on' if on else 'off'}."


chat = OpenAILike(
    model=sys.argv[2],
    api_base=f"{sys.argv[1]}/v1",
    api_key="none",
    temperature=0,
    max_tokens=40,
    context_window=2048,
    is_chat_model=True,
    is_function_calling_model=True,
    max_retries=0,
)
hello = [ChatMessage(role="user", content="Hello")]
found = {
    "openai": openai.__version__,
    "whole": chat.chat(hello).message.content,
    "pieces": [chunk.delta for chunk in chat.stream_chat(hello)],
}
plain = OpenAILike(
    model=sys.argv[2], api_base=f"{sys.argv[1]}/v1", api_key="none", temperature=0, max_tokens=8, is_chat_model=False
)
found["completion"] = plain.complete("Once upon a time").text
try:
    chat.chat([ChatMessage(role="user", content="one two three " * 8)], extra_headers={"X-Bise-First-Token-Ms": "1"})
except openai.RateLimitError as error:
    found["refused"] = error.body["reason"]
chat.max_tokens = 120
answer = chat.chat_with_tools([FunctionTool.from_defaults(switch)], user_msg="Light, please.", tool_required=True)
found["calls"] = [[call.tool_name, call.tool_kwargs] for call in chat.get_tool_calls_from_response(answer)]
json.dump(found, sys.stdout)
