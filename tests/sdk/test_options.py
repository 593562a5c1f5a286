from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bise.errors import InvalidRequest
from bise.options import Options, encode, timeout_s
from bise_proto.v1 import inference_pb2 as pb

EVERY_OPTION: Options = {
    "max_tokens": 7,
    "temperature": 0.5,
    "top_p": 0.25,
    "top_k": 3,
    "min_p": 0.125,
    "repetition_penalty": 1.5,
    "presence_penalty": 0.75,
    "frequency_penalty": -0.5,
    "seed": 2**64 - 1,
    "stop": ["\n", "end"],
    "logprobs": True,
    "top_logprobs": 2,
    "logit_bias": {5: -1.0},
    "ignore_eos": True,
    "timeout": 2.0,
    "first_token_timeout": 0.25,
    "per_token_timeout": 0.029,
    "min_granted_tokens": 5,
    "priority": "critical",
    "on_expiry": "fail",
    "on_overflow": "truncate_oldest",
    "chunking": "clause",
    "max_wait": 0.2,
}

FORMATS: dict[str, tuple[Any, pb.Format]] = {
    "json_schema": ({"type": "string", "const": "é"}, pb.Format(json_schema='{"type": "string", "const": "é"}')),
    "json_object": (True, pb.Format(json_object=True)),
    "regex": ("a+", pb.Format(regex="a+")),
    "lark": ('start: "a"', pb.Format(lark='start: "a"')),
    "choices": (["a", "b"], pb.Format(choices=pb.Choices(texts=["a", "b"]))),
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_reaches_its_field(name: str) -> None:
    given, encoded = FORMATS[name]
    assert encode({name: given}) == pb.Options(format=encoded)  # type: ignore[misc]


def test_a_schema_may_be_a_text() -> None:
    assert encode({"json_schema": "{}"}) == pb.Options(format=pb.Format(json_schema="{}"))


def test_no_json_object_is_no_format() -> None:
    assert encode({"json_object": False, "regex": None}) == pb.Options()


def test_choices_of_nothing_are_sent_to_be_refused() -> None:
    assert encode({"choices": []}).format.WhichOneof("format") == "choices"


def test_there_is_one_format_at_most() -> None:
    with pytest.raises(InvalidRequest, match=r"regex: expected none beside json_schema, got 'a'"):
        encode({"json_schema": {"type": "string"}, "regex": "a"})


@pytest.mark.parametrize("options", [{"json_schema": 3}, {"json_schema": {"a": {1}}}, {"choices": "ab"}, {"regex": 1}])
def test_a_format_of_another_shape_is_refused(options: Any) -> None:
    with pytest.raises(InvalidRequest, match=f"{next(iter(options))}: expected "):
        encode(options)


def test_every_option_reaches_its_field() -> None:
    assert EVERY_OPTION.keys() | FORMATS.keys() == Options.__annotations__.keys()
    assert encode(EVERY_OPTION) == pb.Options(
        max_tokens=7,
        sampling=pb.Sampling(
            temperature=0.5,
            top_p=0.25,
            top_k=3,
            min_p=0.125,
            repetition_penalty=1.5,
            presence_penalty=0.75,
            frequency_penalty=-0.5,
            seed=2**64 - 1,
            logit_bias={5: -1.0},
        ),
        stop=["\n", "end"],
        logprobs=True,
        top_logprobs=2,
        budget=pb.Budget(total_ms=2000, first_token_ms=250, per_token_ms=29),
        min_granted_tokens=5,
        priority=pb.CRITICAL,
        on_expiry=pb.FAIL,
        on_overflow=pb.TRUNCATE_OLDEST,
        ignore_eos=True,
        chunking=pb.Chunking(unit=pb.Chunking.CLAUSE, max_wait_ms=200),
    )


def test_none_is_not_given() -> None:
    assert encode(dict.fromkeys(EVERY_OPTION)) == pb.Options()  # type: ignore[arg-type]


def test_one_text_is_one_stop_and_not_its_letters() -> None:
    assert list(encode({"stop": "END"}).stop) == ["END"]


def test_alternatives_imply_log_probabilities() -> None:
    assert encode({"top_logprobs": 2}).logprobs
    assert not encode({"top_logprobs": 0}).logprobs


@pytest.mark.parametrize(
    ("seconds", "ms"),
    [(1e-9, 1), (1e-300, 1), (0.029, 29), (0.0290001, 30), (0.05, 50), (1, 1000), (4294967.295, 2**32 - 1)],
)
def test_a_budget_is_rounded_up_to_whole_milliseconds_and_never_to_none(seconds: float, ms: int) -> None:
    assert encode({"timeout": seconds}).budget == pb.Budget(total_ms=ms)


@given(st.integers(1, 2**32 - 1))
def test_whole_milliseconds_arrive_as_they_are(ms: int) -> None:
    assert encode({"first_token_timeout": ms / 1000}).budget == pb.Budget(first_token_ms=ms)


def test_an_unknown_keyword_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="'max_token'; expected one of max_tokens, "):
        encode({"max_token": 3})  # type: ignore[typeddict-unknown-key]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_tokens", -1),
        ("max_tokens", 2**32),
        ("max_tokens", 1.5),
        ("temperature", "hot"),
        ("seed", -1),
        ("seed", 2**64),
        ("stop", 3),
        ("stop", ["a", 3]),
        ("stop", "\ud800"),
        ("logit_bias", {-1: 0.5}),
        ("logit_bias", [3]),
        ("logprobs", "yes"),
        ("on_expiry", "explode"),
        ("on_overflow", "explode"),
        ("priority", "urgent"),
        ("priority", ["critical"]),
        ("min_granted_tokens", -1),
        ("first_token_timeout", 0),
        ("per_token_timeout", math.nan),
        ("per_token_timeout", "5"),
    ],
)
def test_what_can_not_be_encoded_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(InvalidRequest, match=f"^{name}: expected .*, got ") as caught:
        encode({name: value})  # type: ignore[misc]
    assert caught.value.field == name
    assert caught.value.reason == "INVALID_OPTION"


@pytest.mark.parametrize("timeout", [0, -1, math.nan, math.inf, 2**32, True, "5"])
def test_a_timeout_is_a_positive_number_of_seconds(timeout: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"^timeout: expected seconds"):
        timeout_s(timeout)
    with pytest.raises(InvalidRequest, match=r"^timeout: expected seconds"):
        encode({"timeout": timeout})


def test_the_default_timeout_is_for_calls_that_give_none() -> None:
    assert timeout_s(None) == 60
    assert timeout_s(3) == 3
