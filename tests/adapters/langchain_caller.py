"""What a program with LangChain does, with the door's address and a model's name; prints what it got as JSON."""

from __future__ import annotations

import json
import sys

import openai
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel


class Found(BaseModel):
    """What to answer with."""

    valid: bool


@tool
def switch(on: bool) -> str:
    """Turn the light on or off."""
    return f"The light is {'on' if on else 'off'}."


chat = ChatOpenAI(
    model=sys.argv[2], base_url=f"{sys.argv[1]}/v1", api_key="none", temperature=0, max_tokens=40, stream_usage=True
)
whole = chat.invoke("Hello")
chunks = list(chat.stream("Hello"))
found = {
    "openai": openai.__version__,
    "whole": whole.content,
    "usage": whole.usage_metadata,
    "pieces": [chunk.content for chunk in chunks],
    "stream_tokens": [chunk.usage_metadata["output_tokens"] for chunk in chunks if chunk.usage_metadata],
}
try:
    chat.bind(extra_headers={"X-Bise-First-Token-Ms": "1"}).invoke("one two three " * 8)
except openai.RateLimitError as error:
    found["refused"] = error.body["reason"]
found["parsed"] = chat.with_structured_output(Found, method="json_schema").invoke("Hello").model_dump()
called = chat.bind_tools([switch], tool_choice="any", max_tokens=120).invoke("Light, please.")
found["calls"] = [[call["name"], call["args"]] for call in called.tool_calls]
json.dump(found, sys.stdout)
