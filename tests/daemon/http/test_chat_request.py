"""Requests of OpenAI's clients as the daemon's own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bise_daemon.errors import Reason, RequestError
from bise_daemon.http.chat_request import ChatFields
from bise_proto.v1 import inference_pb2

HELLO = [{"role": "user", "content": "Hello"}]
WEATHER = {"type": "object", "properties": {"z": {"type": "string"}, "a": {"type": "number"}}}


def read(**fields: Any) -> inference_pb2.ChatRequest:
    return ChatFields.read(json.dumps({"model": "m", "messages": HELLO, **fields}).encode()).request()


def refused(**fields: Any) -> RequestError:
    with pytest.raises(RequestError) as refusal:
        read(**fields)
    assert refusal.value.reason is Reason.INVALID_OPTION
    return refusal.value


def test_what_is_not_said_is_as_openai_says() -> None:
    asked = read()
    assert asked.options.sampling == inference_pb2.Sampling(temperature=1.0)
    assert not asked.options.HasField("max_tokens")
    assert not asked.HasField("tool_choice")
    assert not asked.options.HasField("format")


def test_what_is_null_is_not_said() -> None:
    names = set(ChatFields.model_fields) - {"model", "messages"}
    assert read(**dict.fromkeys(names)) == read()


def test_how_tokens_are_chosen() -> None:
    asked = read(
        temperature=0.5,
        top_p=0.9,
        presence_penalty=1,
        frequency_penalty=-1,
        seed=-1,
        logit_bias={"5": 2, "7": -100},
        logprobs=True,
        top_logprobs=3,
        stop="END",
        max_tokens=7,
    ).options
    assert asked == inference_pb2.Options(
        max_tokens=7,
        sampling=inference_pb2.Sampling(
            temperature=0.5,
            top_p=0.9,
            presence_penalty=1,
            frequency_penalty=-1,
            seed=2**64 - 1,
            logit_bias={5: 2, 7: -100},
        ),
        stop=["END"],
        logprobs=True,
        top_logprobs=3,
    )


def test_the_newer_name_of_a_limit_goes_before_the_older() -> None:
    assert read(max_tokens=7, max_completion_tokens=9).options.max_tokens == 9


def test_a_content_in_parts_is_one_text() -> None:
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    developer = {"role": "developer", "content": "Be brief."}
    assert read(messages=[developer, {"role": "user", "content": parts}]).messages == [
        inference_pb2.Message(role="system", content="Be brief."),
        inference_pb2.Message(role="user", content="Hello"),
    ]


def test_an_answer_can_be_sent_back_as_it_came_and_a_result_knows_its_tool() -> None:
    call = {
        "id": "c1",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"a":1}', "parsed_arguments": {"a": 1}},
    }
    answer = {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "annotations": [],
        "audio": None,
        "parsed": {"a": 1},
    }
    result = {"role": "tool", "tool_call_id": "c1", "content": "rain"}
    messages = read(messages=[*HELLO, {**answer, "tool_calls": [call]}, result]).messages
    assert messages[1:] == [
        inference_pb2.Message(
            role="assistant", tool_calls=[inference_pb2.ToolCall(id="c1", name="weather", arguments='{"a":1}')]
        ),
        inference_pb2.Message(role="tool", content="rain", tool_call_id="c1", name="weather"),
    ]


def test_a_prefix_is_gone_on_from() -> None:
    assert read(messages=[*HELLO, {"role": "assistant", "content": "Well", "prefix": True}]).continue_final_message
    assert not read(messages=[*HELLO, {"role": "assistant", "content": "Well"}]).continue_final_message


def test_tools_keep_the_order_of_their_arguments() -> None:
    function = {"name": "weather", "description": "Says it.", "parameters": WEATHER, "strict": True}
    asked = read(tools=[{"type": "function", "function": function}, {"type": "function", "function": {"name": "now"}}])
    first, second = asked.tools
    assert (first.name, first.description) == ("weather", "Says it.")
    assert first.parameters == '{"type":"object","properties":{"z":{"type":"string"},"a":{"type":"number"}}}'
    assert second == inference_pb2.Tool(name="now")


@pytest.mark.parametrize(
    ("choice", "meant"),
    [
        ("auto", inference_pb2.ToolChoice(mode=inference_pb2.ToolChoice.AUTO)),
        ("none", inference_pb2.ToolChoice(mode=inference_pb2.ToolChoice.NONE)),
        ("required", inference_pb2.ToolChoice(mode=inference_pb2.ToolChoice.REQUIRED)),
        ({"type": "function", "function": {"name": "weather"}}, inference_pb2.ToolChoice(name="weather")),
    ],
)
def test_which_tool(choice: Any, meant: inference_pb2.ToolChoice) -> None:
    assert read(tool_choice=choice).tool_choice == meant


def test_one_call_at_a_time() -> None:
    assert read(parallel_tool_calls=False).tool_choice.single
    assert not read(parallel_tool_calls=True).HasField("tool_choice")


@pytest.mark.parametrize(
    ("form", "meant"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, inference_pb2.Format(json_object=True)),
        (
            {"type": "json_schema", "json_schema": {"name": "w", "strict": True, "schema": {"type": "object"}}},
            inference_pb2.Format(json_schema='{"type":"object"}'),
        ),
    ],
)
def test_what_an_answer_has_to_be(form: Any, meant: inference_pb2.Format | None) -> None:
    options = read(response_format=form).options
    assert options.HasField("format") == (meant is not None)
    assert meant is None or options.format == meant


def test_what_clients_send_without_meaning_anything_here_is_ignored() -> None:
    ignored = {"user": "ann", "store": True, "metadata": {"a": "b"}, "service_tier": "auto", "safety_identifier": "x"}
    assert read(**ignored, prediction={"type": "content", "content": "x"}, modalities=["text"], n=1) == read()


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"n": 2}, "n"),
        ({"functions": []}, "functions"),
        ({"reasoning_effort": "low"}, "reasoning_effort"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"temperature": float("1e999")}, "body"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 10**400}, "max_tokens"),
        ({"seed": 2**64}, "seed"),
        ({"stop": [1]}, "stop[0]"),
        ({"messages": "Hello"}, "messages"),
        ({"messages": [{"role": "robot", "content": ""}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]}, None),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"modalities": ["audio"]}, "modalities[0]"),
        ({"logit_bias": {"-1": 1}}, "logit_bias"),
        ({"logit_bias": {"5": 1000}}, "logit_bias.5"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]}, None),
        ({"tool_choice": "some"}, "tool_choice.type"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.function"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"bise": 5}, "bise"),
    ],
)
def test_what_cannot_be_taken_is_named(fields: dict[str, Any], field: str | None) -> None:
    error = refused(**fields)
    named = str(error.numbers["field"])
    assert error.message.startswith(f"{named}: ")
    assert named == field if field else named.startswith(f"{next(iter(fields))}[0].")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"model":',
        b'{"model": "\\ud800", "messages": []}',
        b'{"model": "m", "messages": [], "seed": NaN}',
        b'{"model": "m", "messages": [], "metadata": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"model": "m", "messages": [], "seed": ' + b"9" * 5000 + b"}",
        b'{"model": 5, "messages": []}',
        b'{"messages": []}',
        b'{"model": "m"}',
    ],
    ids=repr,
)
def test_a_hostile_body_is_an_invalid_request(body: bytes) -> None:
    with pytest.raises(RequestError) as refusal:
        ChatFields.read(body)
    assert refusal.value.reason is Reason.INVALID_OPTION
    assert len(refusal.value.message) < 700


def test_a_schema_with_numbers_that_json_lacks_is_refused() -> None:
    body = b'{"model":"m","messages":[],"response_format":{"type":"json_schema","json_schema":{"schema":{"a":1e999}}}}'
    with pytest.raises(RequestError, match=r"response_format\.json_schema\.schema"):
        ChatFields.read(body).request()


class TestOwn:
    """The field `bise`."""

    def put(self, own: Any, **fields: Any) -> inference_pb2.Options:
        body = json.dumps({"model": "m", "messages": HELLO, "bise": own, **fields}).encode()
        read = ChatFields.read(body)
        options = read.request().options
        read.put_own(options)
        return options

    def test_it_can_ask_for_all_that_the_daemon_can(self) -> None:
        own = {"budget": {"total_ms": 900}, "on_expiry": "FAIL", "format": {"regex": "a+"}, "sampling": {"min_p": 0.5}}
        options = self.put(own, temperature=0.25)
        assert options.budget.total_ms == 900
        assert options.on_expiry == inference_pb2.FAIL
        assert options.format.regex == "a+"
        assert options.sampling == inference_pb2.Sampling(temperature=0.25, min_p=0.5)

    def test_it_goes_before_the_other_fields(self) -> None:
        assert self.put({"max_tokens": 3}, max_tokens=9).max_tokens == 3

    @pytest.mark.parametrize(
        "own",
        [
            {"no_such": 1},
            {"budget": {"total_ms": -1}},
            {"budget": {"total_ms": 1e30}},
            {"budget": 5},
            {"priority": "HIGH"},
            {"stop": "x"},
            {"format": {"regex": "a", "json_object": True}},
            {"sampling": {"temperature": "x"}},
            {"sampling": {"logit_bias": {"x": 1}}},
            {"format": {"choices": {"texts": [None]}}},
        ],
        ids=repr,
    )
    def test_what_is_wrong_with_it_is_told(self, own: Any) -> None:
        with pytest.raises(RequestError, match="bise"):
            self.put(own)
