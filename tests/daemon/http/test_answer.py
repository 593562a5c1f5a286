"""The daemon's answers as OpenAI's clients read them."""

from __future__ import annotations

import math

import pytest

from bise_daemon.http.answer import AnswerForm, finish_reason
from bise_daemon.http.chat_answer import ChatForm
from bise_daemon.http.completion_answer import CompletionForm
from bise_daemon.http.json_text import encoded
from bise_proto.v1 import inference_pb2
from bise_proto.v1.inference_pb2 import Delta, TokenLogprob, ToolCallDelta

CALLS = [
    Delta(tool_calls=[ToolCallDelta(index=0, id="c0", name="weather")]),
    Delta(tool_calls=[ToolCallDelta(index=0, arguments='{"a":')]),
    Delta(
        tool_calls=[
            ToolCallDelta(index=0, arguments="1}"),
            ToolCallDelta(index=1, id="c1", name="now", arguments="{}"),
        ]
    ),
]
SURE = TokenLogprob(token_id=5, token=b" H", logprob=-0.5, top=[TokenLogprob(token_id=5, token=b" H", logprob=-0.5)])
HALF = TokenLogprob(token_id=6, token=b"\xc3", logprob=-math.inf)


@pytest.mark.parametrize("reason", [each for each in inference_pb2.FinishReason.values() if each])
def test_every_ending_has_a_word_of_openai_s(reason: inference_pb2.FinishReason) -> None:
    assert finish_reason(inference_pb2.Done(finish_reason=reason)) in {"stop", "length", "tool_calls"}


@pytest.mark.parametrize("reason", [inference_pb2.LENGTH, inference_pb2.DEADLINE])
def test_an_answer_that_was_closed_early_is_whole(reason: inference_pb2.FinishReason) -> None:
    assert finish_reason(inference_pb2.Done(finish_reason=reason, closed_early=True)) == "stop"


def test_a_message() -> None:
    assert ChatForm().whole([Delta(text="Hel"), Delta(text="lo")], "stop") == {
        "index": 0,
        "message": {"role": "assistant", "content": "Hello", "refusal": None},
        "logprobs": None,
        "finish_reason": "stop",
    }


def test_calls_are_put_together_from_their_parts() -> None:
    message = ChatForm().whole(CALLS, "tool_calls")["message"]
    assert message["content"] is None
    assert message["tool_calls"] == [
        {"id": "c0", "type": "function", "function": {"name": "weather", "arguments": '{"a":1}'}},
        {"id": "c1", "type": "function", "function": {"name": "now", "arguments": "{}"}},
    ]


def test_parts_of_calls_are_streamed_as_they_come() -> None:
    form = ChatForm()
    assert [form.piece(delta)["delta"] for delta in CALLS] == [
        {
            "tool_calls": [
                {"index": 0, "id": "c0", "type": "function", "function": {"name": "weather", "arguments": ""}}
            ]
        },
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a":'}}]},
        {
            "tool_calls": [
                {"index": 0, "function": {"arguments": "1}"}},
                {"index": 1, "id": "c1", "type": "function", "function": {"name": "now", "arguments": "{}"}},
            ]
        },
    ]


def test_logprobs_of_a_chat() -> None:
    piece = ChatForm().piece(Delta(text=" H", logprobs=[SURE, HALF]))
    token = {"token": " H", "logprob": -0.5, "bytes": [32, 72]}
    half = {"token": "\N{REPLACEMENT CHARACTER}", "logprob": -9999.0, "bytes": [0xC3], "top_logprobs": []}
    assert piece["logprobs"] == {"content": [{**token, "top_logprobs": [token]}, half], "refusal": None}


def test_logprobs_of_a_completion_know_where_they_are() -> None:
    form = CompletionForm()
    form.piece(Delta(text=" H", logprobs=[SURE]))
    assert form.piece(Delta(text=" H", logprobs=[SURE]))["logprobs"] == {
        "tokens": [" H"],
        "token_logprobs": [-0.5],
        "top_logprobs": [{" H": -0.5}],
        "text_offset": [2],
    }


@pytest.mark.parametrize("form", [ChatForm(), CompletionForm()])
def test_every_choice_can_be_sent(form: AnswerForm) -> None:
    delta = Delta(text="\N{BLACK STAR}", logprobs=[HALF])
    for choice in (form.opening() or {}, form.piece(delta), form.ending("stop"), form.whole([delta], "length")):
        assert encoded(choice)
