"""Whatever is sent to the HTTP door: it becomes a request of the daemon's, or is refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bise_daemon.errors import RequestError
from bise_daemon.http.chat_request import ChatFields
from bise_daemon.http.completion_request import CompletionFields
from property.hostile import FUZZ, changed_bytes, hostile_json, survives

pytestmark = pytest.mark.slow

_OWN = {
    "budget": {"total_ms": 900, "first_token_ms": 80},
    "priority": "CRITICAL",
    "sampling": {"min_p": 0.5, "logit_bias": {"5": 1}},
    "format": {"choices": {"texts": ["yes", "no"]}},
}
_CHAT: dict[str, Any] = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hello"}]},
        {
            "role": "assistant",
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c", "content": "1"},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}},
    "stop": ["a"],
    "logit_bias": {"5": 1.5},
    "seed": 7,
    "stream": True,
    "stream_options": {"include_usage": True},
    "bise": _OWN,
}
_COMPLETION: dict[str, Any] = {"model": "m", "prompt": [[5, 6, 7]], "logprobs": 2, "n": 1, "bise": _OWN}
_ENDPOINTS = {"chat": (ChatFields, _CHAT), "completions": (CompletionFields, _COMPLETION)}


@pytest.mark.parametrize("endpoint", _ENDPOINTS)
@FUZZ
@given(data=st.data(), whole=st.booleans())
def test_any_body(endpoint: str, data: st.DataObject, whole: bool) -> None:
    fields, valid = _ENDPOINTS[endpoint]
    content = json.dumps(valid).encode()
    body = data.draw(hostile_json(content) if whole else changed_bytes(content))

    def translate() -> None:
        read = fields.read(body)
        asked = read.request()
        read.put_own(asked.options)
        asked.SerializeToString()

    survives(translate, RequestError)
