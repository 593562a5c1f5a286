"""Conversations with tools as transformers takes them, that templates are rendered with."""

from __future__ import annotations

from typing import Any

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": 'The weather at a place, "now" & <later>.',
        "parameters": {
            "type": "object",
            "properties": {
                "place": {"type": "string", "description": "a town: Genève, 東京"},
                "days": {"type": "integer", "minimum": 1, "enum": [1, 2, 7]},
                "near": {"type": "object", "properties": {"lat": {"type": "number"}}, "required": ["lat"]},
            },
            "required": ["place"],
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "clock", "description": "", "parameters": {"type": "object"}}}


def _call(call_id: str, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


_CITY = _call("VvvODy9mT", "get_weather", {"place": "Genève", "near": {"lat": 46.2, "list": [1, None, True, "é\n"]}})
_TIME = _call("a1b2c3d4e", "clock", {})
_USER = {"role": "user", "content": " Is it <b>windy</b>? "}
_RESULT = {"role": "tool", "content": '{"wind": "bise", "°C": 3}', "tool_call_id": "VvvODy9mT", "name": "get_weather"}
_SECOND = {"role": "tool", "content": "12:30", "tool_call_id": "a1b2c3d4e", "name": "clock"}

CONVERSATIONS: dict[str, dict[str, Any]] = {
    "plain": {"messages": [{"role": "system", "content": "Be brief."}, _USER]},
    "tools": {"messages": [_USER], "tools": [WEATHER, CLOCK]},
    "a call and its result": {
        "messages": [
            {"role": "system", "content": "Be brief."},
            _USER,
            {"role": "assistant", "content": "", "tool_calls": [_CITY]},
            _RESULT,
            {"role": "assistant", "content": "The bise blows."},
            {"role": "user", "content": "And tomorrow?"},
        ],
        "tools": [WEATHER],
    },
    "parallel calls": {
        "messages": [
            _USER,
            {"role": "assistant", "content": "I look.", "tool_calls": [_CITY, _TIME]},
            _RESULT,
            _SECOND,
        ],
        "tools": [WEATHER, CLOCK],
    },
    "a text to go on from": {
        "messages": [_USER, {"role": "assistant", "content": "Yes, it "}],
        "tools": [CLOCK],
        "continue_final_message": True,
    },
}
"""By name: `messages`, and where there are some, `tools` and `continue_final_message`."""
