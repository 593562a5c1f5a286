"""OpenAI's documented examples against the real model; two lines differ: the address, and the model's name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel

from bise import Client
from golden.tool_bundle import teach_tools
from running import running

pytestmark = [pytest.mark.slow, pytest.mark.real_model]

PATIENCE_S = 120
MODEL = "SmolLM2-135M-Instruct"
CAPITAL: Any = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def door(smollm2_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder, http = tmp_path_factory.mktemp("daemon"), {"listen": "127.0.0.1:0"}
    # SmolLM2 was trained without tools: its calls need not make sense, but have to be calls.
    bundle = teach_tools(smollm2_bundle, folder / "taught", "<|im_start|>", "<|im_end|>")
    with running(bundle, folder, context=2048, slots=4, http=http) as daemon, Client(daemon.address) as client:
        client.wait_until_serving(timeout=PATIENCE_S)
        yield f"{daemon.http}/v1"


@pytest.fixture
def client(door: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=door, api_key="none") as client:
        yield client


def test_a_chat(client: OpenAI) -> None:
    completion = client.chat.completions.create(model=MODEL, messages=CAPITAL, temperature=0)
    assert "Paris" in (completion.choices[0].message.content or "")
    assert completion.choices[0].finish_reason == "stop"


def test_a_stream(client: OpenAI) -> None:
    whole = client.chat.completions.create(model=MODEL, messages=CAPITAL, temperature=0)
    stream = client.chat.completions.create(model=MODEL, messages=CAPITAL, temperature=0, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert text == whole.choices[0].message.content


def test_a_second_turn_with_the_answer_as_it_came(client: OpenAI) -> None:
    first = client.chat.completions.create(model=MODEL, messages=CAPITAL, temperature=0)
    messages = [*CAPITAL, first.choices[0].message, {"role": "user", "content": "And of Italy?"}]
    second = client.chat.completions.create(model=MODEL, messages=messages, temperature=0, max_tokens=40)
    assert second.usage is not None
    assert second.usage.prompt_tokens_details is not None
    assert (second.usage.prompt_tokens_details.cached_tokens or 0) > 0


def test_a_deadline_cuts_an_answer(client: OpenAI) -> None:
    asked: Any = {"model": MODEL, "messages": [{"role": "user", "content": "Tell me a long story."}], "max_tokens": 400}
    with client.chat.completions.create(**asked, stream=True) as stream:
        accepted: Any = next(iter(stream)).model_extra
    allowed_ms = round(accepted["bise"]["accepted"]["predicted_total_ms"] / 3)
    completion = client.chat.completions.create(
        **asked, extra_headers={"X-Bise-Timeout-Ms": str(allowed_ms)}, timeout=PATIENCE_S
    )
    assert completion.choices[0].finish_reason == "length"
    assert completion.usage is not None
    assert 1 <= completion.usage.completion_tokens < 400


class City(BaseModel):
    name: str
    country: Literal["France", "Italy", "Spain"]
    inhabitants: int


def test_an_answer_by_schema(client: OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "Describe the city of Paris."}]
    completion = client.chat.completions.parse(model=MODEL, messages=messages, response_format=City, max_tokens=100)
    assert isinstance(completion.choices[0].message.parsed, City)


def test_any_object(client: OpenAI) -> None:
    completion = client.chat.completions.create(
        model=MODEL, messages=CAPITAL, response_format={"type": "json_object"}, max_tokens=60
    )
    assert isinstance(json.loads(completion.choices[0].message.content or ""), dict)


def test_a_schema_that_cannot_be_kept_is_refused(client: OpenAI) -> None:
    schema: Any = {"name": "s", "schema": {"type": "no such type"}}
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(
            model=MODEL, messages=CAPITAL, response_format={"type": "json_schema", "json_schema": schema}
        )


WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get current temperature for a given location.",
        "parameters": {
            "type": "object",
            "properties": {"location": {"type": "string"}, "unit": {"enum": ["celsius", "fahrenheit"]}},
            "required": ["location", "unit"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_call_and_its_result(client: OpenAI, stream: bool) -> None:
    messages: list[Any] = [{"role": "user", "content": "What is the weather like in Paris today?"}]
    asked: Any = {"model": MODEL, "tools": [WEATHER], "tool_choice": "required", "max_tokens": 80, "temperature": 0}
    if stream:
        with client.chat.completions.stream(**asked, messages=messages) as events:
            completion: Any = events.get_final_completion()
    else:
        completion = client.chat.completions.create(**asked, messages=messages)
    (choice,) = completion.choices
    assert choice.finish_reason == "tool_calls"
    call = choice.message.tool_calls[0]
    assert call.function.name == "get_weather"
    assert set(json.loads(call.function.arguments)) == {"location", "unit"}
    messages += [
        {"role": "assistant", "tool_calls": [call.model_dump()]},
        {"role": "tool", "tool_call_id": call.id, "content": "14 degrees"},
    ]
    answer = client.chat.completions.create(model=MODEL, messages=messages, tools=[WEATHER], max_tokens=20)
    assert answer.choices[0].finish_reason in ("stop", "length", "tool_calls")
