"""Answers in a format, from the real model through the SDK: whole, whatever cuts them short."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from bise import Client, FinishReason, InvalidRequest, OverBudget
from schemas import SCHEMAS, closed, listing

pytestmark = [pytest.mark.slow, pytest.mark.real_model, pytest.mark.timeout(400)]

_PERSON = closed({"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0, "maximum": 120}})
_QUESTION = "Describe a person named Anna, as JSON."


def test_an_answer_is_what_its_schema_says(client: Client) -> None:
    result = client.chat(_QUESTION, json_schema=_PERSON, max_tokens=64)
    person = json.loads(result.text)
    assert person["name"].startswith("Anna")
    assert (result.finish_reason, result.closed_early) == (FinishReason.STOP, False)
    assert result.usage.forced_tokens >= 5


def test_dictated_tokens_are_skipped_and_the_answer_stays(client: Client, plain: Any) -> None:
    """One daemon guesses ahead and keeps what was computed, the other does neither; both skip."""
    for schema in SCHEMAS[2:8]:
        asked = {"json_schema": schema, "max_tokens": 48}
        assert client.generate(_QUESTION, **asked).token_ids == plain.generate(_QUESTION, **asked).token_ids


@pytest.mark.parametrize("max_tokens", [24, 29, 41])
def test_where_tokens_run_out_the_answer_is_closed(max_tokens: int, client: Client) -> None:
    schema = closed({"people": listing(_PERSON, minItems=1), "note": {"type": "string"}})
    result = client.chat("Name twenty people, as JSON.", json_schema=schema, max_tokens=max_tokens)
    assert (result.finish_reason, result.closed_early) == (FinishReason.LENGTH, True)
    assert result.usage.completion_tokens <= max_tokens
    Draft202012Validator(schema).validate(json.loads(result.text))


def test_where_time_runs_out_the_answer_is_closed(client: Client) -> None:
    client.chat(_QUESTION, json_schema=listing(_PERSON), max_tokens=8)  # its grammar is there from here on
    whole = 0
    for attempt in range(6):
        try:
            result = client.chat(
                f"List people, as JSON. {attempt}", json_schema=listing(_PERSON), max_tokens=400, timeout=0.7
            )
        except OverBudget:
            continue
        Draft202012Validator(listing(_PERSON)).validate(json.loads(result.text))
        whole += 1
    assert whole


def test_other_formats(client: Client) -> None:
    assert re.fullmatch(r"[A-Z]{3}-\d{4}", client.chat("A plate number?", regex=r"[A-Z]{3}-\d{4}").text)
    assert client.chat("Is the sky blue?", choices=["yes", "no", "größer"]).text in ("yes", "no", "größer")
    assert isinstance(json.loads(client.chat("An object, please.", json_object=True, max_tokens=40).text), dict)
    sums = client.chat("Add numbers.", lark='start: NUMBER ("+" NUMBER)+\nNUMBER: /[0-9]{1,3}/', max_tokens=12).text
    assert re.fullmatch(r"[0-9]{1,3}(\+[0-9]{1,3})+", sums)


def test_an_answer_is_a_value_of_a_pydantic_model(client: Client) -> None:
    class Person(BaseModel):
        name: str
        age: int

    assert isinstance(client.parse(_QUESTION, Person, max_tokens=48), Person)


def test_what_can_not_be_closed_is_refused_with_the_numbers(client: Client) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        client.chat(_QUESTION, json_schema=_PERSON, max_tokens=3)
    assert refusal.value.numbers["field"] == "max_tokens"
    assert int(refusal.value.numbers["shortest_tokens"]) > 3


@pytest.mark.parametrize("options", [{"stop": "x"}, {"ignore_eos": True}])
def test_what_does_not_go_with_a_format_is_refused_by_name(options: Any, client: Client) -> None:
    with pytest.raises(InvalidRequest, match=f"{next(iter(options))}: expected none with a format"):
        client.chat(_QUESTION, regex="a+", **options)
