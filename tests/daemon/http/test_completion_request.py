"""Requests of OpenAI's older endpoint as the daemon's own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bise_daemon.errors import RequestError
from bise_daemon.http.completion_request import CompletionFields
from bise_proto.v1 import inference_pb2


def read(**fields: Any) -> inference_pb2.GenerateRequest:
    return CompletionFields.read(json.dumps({"model": "m", "prompt": "Hi", **fields}).encode()).request()


def test_what_is_not_said_is_as_openai_says() -> None:
    sampling = inference_pb2.Sampling(temperature=1.0)
    options = inference_pb2.Options(max_tokens=16, sampling=sampling)
    assert read() == inference_pb2.GenerateRequest(prompt="Hi", options=options)


@pytest.mark.parametrize("prompt", ["Once", ["Once"]])
def test_a_text(prompt: Any) -> None:
    assert read(prompt=prompt).prompt == "Once"


@pytest.mark.parametrize("prompt", [[5, 6], [[5, 6]]])
def test_token_ids(prompt: Any) -> None:
    assert list(read(prompt=prompt).token_ids.ids) == [5, 6]


@pytest.mark.parametrize(("logprobs", "asked", "top"), [(None, False, 0), (0, True, 0), (4, True, 4)])
def test_logprobs_are_a_number_here(logprobs: int | None, asked: bool, top: int) -> None:
    options = read(logprobs=logprobs).options
    assert (options.logprobs, options.top_logprobs) == (asked, top)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"prompt": ["one", "two"]}, "prompt"),
        ({"prompt": [[5], [6]]}, "prompt"),
        ({"prompt": [5, -6]}, "prompt"),
        ({"prompt": [5, True]}, "prompt"),
        ({"prompt": [2**32]}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": {}}, "prompt"),
        ({"best_of": 2}, "best_of"),
        ({"echo": True}, "echo"),
        ({"suffix": "x"}, "suffix"),
        ({"messages": []}, "messages"),
    ],
)
def test_what_cannot_be_taken_is_named(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(RequestError) as refusal:
        read(**fields)
    assert refusal.value.numbers["field"] == field
