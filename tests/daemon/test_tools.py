"""Tools through the whole daemon: a tiny model with Mistral's tokenizer, called by the SDK."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import mistral_common
import pytest
from google.protobuf import json_format
from mistral_common.tokens.tokenizers.tekken import Tekkenizer

from bise import Client, FinishReason, InvalidRequest, Message, Tool, ToolCall, Unsupported
from bise_proto.bundle import MANIFEST, describe
from bise_proto.v1 import bundle_pb2
from golden import tiny, tiny_bundle
from running import RunningDaemon, running

pytestmark = pytest.mark.slow

WEATHER = Tool(
    "get_weather",
    "The weather.",
    {
        "type": "object",
        "properties": {
            "place": {"type": "string", "maxLength": 6},
            "days": {"type": "integer", "minimum": 1, "maximum": 9},
            "units": {"type": "array", "items": {"enum": ["C", "K"]}, "maxItems": 2},
        },
        "required": ["place", "days"],
    },
)
CLOCK = Tool("clock")
TOOLS = [WEATHER, CLOCK]


@pytest.fixture(scope="module", params=["v7", "v11", "v13"])
def daemon(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    """Serves a tiny model with random weights, and Mistral's layout of a version over 3,000 of its tokens."""
    folder = tmp_path_factory.mktemp("tools")
    spec = replace(tiny.MISTRAL, vocab_size=4000, trained_context=512)
    bundle = tiny_bundle.write(folder / "bundle", spec, tiny_bundle.Kind(), [])
    tekken = json.loads((Path(mistral_common.__file__).parent / "data" / "tekken_240911.json").read_bytes())
    tekken["config"] |= {"version": request.param, "default_vocab_size": 4000}
    tekken["vocab"] = tekken["vocab"][:3000]
    names = [str(token["token_str"]) for token in Tekkenizer.DEPRECATED_SPECIAL_TOKENS] + ["[ARGS]", "[CALL_ID]"]
    tekken["special_tokens"] = [{"rank": n, "token_str": name, "is_control": True} for n, name in enumerate(names)]
    (folder / "bundle" / "tokenizer" / "tekken.json").write_text(json.dumps(tekken))
    bundle.chat_format = bundle_pb2.MISTRAL
    bundle.tokenizer.kind, bundle.tokenizer.file = bundle_pb2.Tokenizer.TEKKEN, "tokenizer/tekken.json"
    bundle.files.append(describe(folder / "bundle", "tokenizer/tekken.json"))
    (folder / "bundle" / MANIFEST).write_text(json_format.MessageToJson(bundle, preserving_proto_field_name=True))
    with running(folder / "bundle", folder, slots=2) as daemon:
        yield daemon


@pytest.fixture
def client(daemon: RunningDaemon) -> Iterator[Client]:
    with Client(daemon.address, timeout=60) as client:
        client.wait_until_serving()
        yield client


def check(call: ToolCall) -> None:
    schemas: dict[str, Any] = {tool.name: tool.parameters for tool in TOOLS}
    jsonschema.validate(call.values, schemas[call.name])
    assert len(call.id) == 9
    assert call.id.isalnum()


@pytest.mark.parametrize("seed", range(5))
def test_a_call_that_is_required_is_made_and_validates(client: Client, seed: int) -> None:
    sampling: dict[str, Any] = {"temperature": 1.5, "seed": seed, "max_tokens": 120}
    result = client.chat("Is it windy?", tools=TOOLS, tool_choice="required", **sampling)
    assert result.tool_calls
    assert (result.text, result.malformed_tool_calls) == ("", ())
    assert result.finish_reason is (FinishReason.LENGTH if result.closed_early else FinishReason.TOOL_CALLS)
    for call in result.tool_calls:
        check(call)
    with client.stream_chat("Is it windy?", tools=TOOLS, tool_choice="required", **sampling) as stream:
        pieces = [piece for delta in stream for piece in delta.tool_calls]
    assert [(call.name, call.arguments) for call in stream.result.tool_calls] == [
        (call.name, call.arguments) for call in result.tool_calls
    ]
    assert "".join(piece.arguments for piece in pieces) == "".join(call.arguments for call in result.tool_calls)


def test_a_named_call_is_of_that_name_and_a_single_one_alone(client: Client) -> None:
    named = client.chat("Hi", tools=TOOLS, tool_choice="clock", max_tokens=60, temperature=1.0, seed=3)
    assert {call.name for call in named.tool_calls} == {"clock"}
    single = client.chat("Hi", tools=TOOLS, tool_choice="clock", parallel_tool_calls=False, max_tokens=60)
    (call,) = single.tool_calls
    assert (call.name, call.arguments, single.finish_reason) == ("clock", "{}", FinishReason.TOOL_CALLS)


@pytest.mark.parametrize("max_tokens", [40, 60, 80])
def test_a_required_call_is_whole_however_few_tokens_are_left(client: Client, max_tokens: int) -> None:
    result = client.chat("Hi", tools=[WEATHER], tool_choice="required", max_tokens=max_tokens, temperature=1.5, seed=1)
    assert result.usage.completion_tokens <= max_tokens
    for call in result.tool_calls:
        check(call)
    assert result.tool_calls


@pytest.mark.parametrize("max_tokens", [3, 12, 60, 90])
def test_a_call_the_model_begins_itself_is_held_to_its_schema_and_told_when_it_is_cut(
    client: Client, max_tokens: int
) -> None:
    tool_calls_token = 9
    likely: dict[str, Any] = {"logit_bias": {tool_calls_token: 100.0}, "temperature": 1.0, "seed": max_tokens}
    result = client.chat("Hi", tools=TOOLS, max_tokens=max_tokens, **likely)
    assert result.text == ""
    assert result.usage.completion_tokens <= max_tokens
    assert not result.closed_early
    for call in result.tool_calls:
        check(call)
    if result.finish_reason is FinishReason.LENGTH:
        assert all("the end of the answer" in each.problem for each in result.malformed_tool_calls)
    else:
        assert (result.finish_reason, result.malformed_tool_calls) == (FinishReason.TOOL_CALLS, ())
    assert result.tool_calls or result.malformed_tool_calls


def test_where_none_may_be_called_a_call_is_malformed(client: Client) -> None:
    result = client.chat("Hi", tools=TOOLS, tool_choice="none", max_tokens=4, logit_bias={9: 100.0})
    assert (result.text, result.tool_calls) == ("", ())
    assert result.malformed_tool_calls
    assert result.finish_reason is FinishReason.LENGTH


def test_results_go_back_and_texts_are_gone_on_from(client: Client) -> None:
    asked = client.chat("Hi", tools=TOOLS, tool_choice="clock", parallel_tool_calls=False, max_tokens=60)
    history = [
        Message("user", "Hi"),
        asked.message,
        Message("tool", "12:30", tool_call_id=asked.tool_calls[0].id, name="clock"),
    ]
    answer = client.chat(history, tools=TOOLS, tool_choice="none", max_tokens=5)
    assert answer.tool_calls == ()
    shown = client.count_tokens([*history, Message("assistant", "It is")], tools=TOOLS, continue_final_message=True)
    assert shown.rendered.endswith("[/TOOL_RESULTS]It is")
    assert "[AVAILABLE_TOOLS]" in shown.rendered


def test_what_can_not_be_kept_is_refused_by_field(client: Client) -> None:
    schema = {"type": "object", "properties": {"x": {"type": "string", "pattern": "(?=a)b"}}, "required": ["x"]}
    with pytest.raises(InvalidRequest, match="tools: expected schemas that calls can be held to: ") as refusal:
        client.chat("Hi", tools=[Tool("f", "", schema)], tool_choice="required")
    assert refusal.value.field == "tools"
    with pytest.raises(InvalidRequest, match=r"format\.json_object: expected none where a call is required"):
        client.chat("Hi", tools=TOOLS, tool_choice="required", json_object=True)
    with pytest.raises(InvalidRequest, match=r"tools\[0\].name: expected 1 to 64 of the characters"):
        client.chat("Hi", tools=[Tool("get\u200bweather")])


def test_a_megabyte_of_schema_is_refused_and_others_go_on(client: Client) -> None:
    schema = {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(40_000)}}
    with pytest.raises(InvalidRequest):
        client.chat("Hi", tools=[Tool("f", "", schema)])
    assert client.chat("Hi", max_tokens=2, ignore_eos=True).usage.completion_tokens == 2


def test_a_template_without_tools_refuses_them(tiny_bundle: Path, tmp_path: Path) -> None:
    with running(tiny_bundle, tmp_path) as daemon, Client(daemon.address) as client:
        client.wait_until_serving()
        with pytest.raises(Unsupported, match="got one with a chat template without tools"):
            client.chat("Hi", tools=[CLOCK])
