"""Answers as values of a pydantic model."""

from __future__ import annotations

import json

import pytest
from pydantic import BaseModel

from bise import AsyncClient, Client, InvalidRequest
from bise.testing import Answer, FakeDaemon


class Person(BaseModel):
    name: str
    age: int | None = None


def test_the_models_schema_is_the_format_and_the_answer_a_value() -> None:
    with FakeDaemon(['{"name": "Anna", "age": 7}']) as daemon, Client(daemon.address) as client:
        assert client.parse("Who?", Person, max_tokens=40) == Person(name="Anna", age=7)
        options = daemon.requests[0].options
    assert json.loads(str(options["json_schema"])) == Person.model_json_schema()
    assert options["max_tokens"] == 40


async def test_so_it_is_for_asyncio() -> None:
    with FakeDaemon(['{"name": "Anna"}']) as daemon:
        async with AsyncClient(daemon.address) as client:
            assert await client.parse("Who?", Person) == Person(name="Anna")


@pytest.mark.parametrize("model", [dict, None, Person(name="x").name])
def test_what_is_no_model_is_refused_before_anything_is_sent(model: object) -> None:
    with (
        FakeDaemon() as daemon,
        Client(daemon.address) as client,
        pytest.raises(InvalidRequest, match=r"response_model: .* pip install 'pydantic>=2'"),
    ):
        client.parse("Who?", model)  # type: ignore[type-var]
    assert not daemon.requests


def test_how_an_answer_was_closed_is_told() -> None:
    answer = Answer(["{", "}"], closed_early=True, forced_tokens=1)
    with FakeDaemon([answer]) as daemon, Client(daemon.address) as client:
        result = client.generate("Once", choices=["{}", "[]"])
        assert daemon.requests[0].options == {"choices": ["{}", "[]"]}
    assert (result.closed_early, result.usage.forced_tokens) == (True, 1)
