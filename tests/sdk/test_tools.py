"""Tools from functions, models and mappings, and the loop that runs them."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import pydantic
import pytest

from bise import (
    AsyncClient,
    Client,
    FinishReason,
    InvalidRequest,
    MalformedToolCall,
    Message,
    Tool,
    ToolCall,
)
from bise.testing import Answer, FakeDaemon
from bise.tools import describe

CITY = ToolCall("VvvODy9mT", "weather", '{"place": "Genève", "days": 2}')
TIME = ToolCall("a1b2c3d4e", "clock")


class Unit(enum.Enum):
    CELSIUS = "C"
    KELVIN = "K"


class Position(pydantic.BaseModel):
    latitude: float


class Place(pydantic.BaseModel):
    """Where it is."""

    name: str
    position: Position | None = None


def weather(place: str, days: int = 1) -> dict[str, Any]:
    """The weather at a place.

    From the nearest station.

    Args:
        place: a town, as people
            there call it
        days (int): how many

    Returns:
        What is measured.
    """
    return {"place": place, "days": days}


def clock() -> str:
    return "12:30"


def every_kind(
    a: Annotated[float, "a number"],
    b: list[str] | None,
    c: Literal["x", 1],
    d: dict[str, bool],
    e: Unit,
    f: Place,
    g: Any,
    *,
    h: list = [],  # type: ignore[type-arg]  # noqa: B006
) -> None: ...


def test_a_function_is_described_by_its_signature_and_docstring() -> None:
    assert describe(weather, "tools[0]") == Tool(
        "weather",
        "The weather at a place.\n\nFrom the nearest station.",
        {
            "type": "object",
            "properties": {
                "place": {"type": "string", "description": "a town, as people there call it"},
                "days": {"type": "integer", "description": "how many"},
            },
            "required": ["place"],
        },
    )
    assert describe(clock, "") == Tool("clock", "", {"type": "object", "properties": {}})


def test_every_annotation_of_json_has_a_schema() -> None:
    parameters = describe(every_kind, "").parameters
    assert parameters["properties"] == {
        "a": {"type": "number", "description": "a number"},
        "b": {"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}]},
        "c": {"enum": ["x", 1]},
        "d": {"type": "object", "additionalProperties": {"type": "boolean"}},
        "e": {"enum": ["C", "K"]},
        "f": {key: value for key, value in Place.model_json_schema().items() if key != "$defs"},
        "g": {},
        "h": {"type": "array"},
    }
    assert list(parameters["$defs"]) == ["Position"]
    assert parameters["required"] == list("abcdefg")


def test_a_model_and_openais_form_are_tools() -> None:
    assert describe(Place, "").name == "Place"
    assert describe(Place, "").description == "Where it is."
    assert describe(Place, "").parameters["required"] == ["name"]
    schema = {"type": "object", "properties": {"x": {}}}
    form = {"type": "function", "function": {"name": "f", "description": "d", "parameters": schema, "strict": True}}
    assert (
        describe(form, "")
        == describe({"name": "f", "description": "d", "parameters": schema}, "")
        == Tool("f", "d", schema)
    )


def untold(x) -> None: ...  # type: ignore[no-untyped-def]


def positional(*x: int) -> None: ...


def strange(x: asyncio.Event) -> None: ...


@pytest.mark.parametrize(
    "tool", [untold, positional, strange, {"parameters": {}}, {"name": "f", "parameters": {"x": {1}}}, 7]
)
def test_what_can_not_be_described_is_refused_by_field(tool: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"tools\[1\]: expected a function with annotated parameters") as refusal:
        describe(tool, "tools[1]")
    assert refusal.value.field == "tools[1]"


def test_tools_calls_and_results_are_sent_and_calls_come_back() -> None:
    script = [Answer("I look. ", tool_calls=[CITY, TIME]), Answer("It is windy.")]
    with FakeDaemon(script) as daemon, Client(daemon.address) as client:
        asked = client.chat("Windy?", tools=[weather, clock], tool_choice="required", parallel_tool_calls=True)
        result = Message("tool", "11", tool_call_id=CITY.id, name="weather")
        client.chat(
            [Message("user", "Windy?"), asked.message, result, {"role": "assistant", "content": "It"}],
            tools=[clock],
            tool_choice="clock",
            parallel_tool_calls=False,
            continue_final_message=True,
        )
    assert (asked.text, asked.tool_calls, asked.finish_reason) == ("I look. ", (CITY, TIME), FinishReason.TOOL_CALLS)
    assert CITY.values == {"place": "Genève", "days": 2}
    first, second = daemon.requests
    assert first.tools == (describe(weather, ""), describe(clock, ""))
    assert (first.tool_choice, first.parallel_tool_calls) == ("required", True)
    assert second.messages[1:3] == (Message("assistant", "I look. ", (CITY, TIME)), result)
    assert (second.tool_choice, second.parallel_tool_calls, second.continue_final_message) == ("clock", False, True)


def test_a_stream_tells_the_name_first_and_arguments_as_they_come() -> None:
    with (
        FakeDaemon([Answer("", tool_calls=[CITY])]) as daemon,
        Client(daemon.address) as client,
        client.stream_chat("Windy?", tools=[weather]) as stream,
    ):
        pieces = [call for delta in stream for call in delta.tool_calls]
    assert [(each.id, each.name) for each in pieces] == [(CITY.id, CITY.name), ("", ""), ("", "")]
    assert "".join(each.arguments for each in pieces) == CITY.arguments
    assert stream.result.tool_calls == (CITY,)


@pytest.fixture(params=["sync", "async"])
def run_tools(request: pytest.FixtureRequest) -> Callable[..., Any]:
    def run(daemon: FakeDaemon, **keywords: Any) -> Any:
        async def ask() -> Any:
            async with AsyncClient(daemon.address) as client:
                return await client.run_tools("Windy?", **keywords)

        if request.param == "async":
            return asyncio.run(ask())
        with Client(daemon.address) as client:
            return client.run_tools("Windy?", **keywords)

    return run


def test_what_is_called_is_run_until_there_is_an_answer(run_tools: Callable[..., Any]) -> None:
    with FakeDaemon([Answer("", tool_calls=[CITY, TIME]), "Windy, at 12:30."]) as daemon:
        run = run_tools(daemon, tools=[weather, clock], tool_choice="required", max_tokens=99)
    assert (run.text, run.rounds) == ("Windy, at 12:30.", 2)
    assert run.messages == (
        Message("user", "Windy?"),
        Message("assistant", "", (CITY, TIME)),
        Message("tool", '{"place": "Genève", "days": 2}', tool_call_id=CITY.id, name="weather"),
        Message("tool", "12:30", tool_call_id=TIME.id, name="clock"),
        Message("assistant", "Windy, at 12:30."),
    )
    assert [each.tool_choice for each in daemon.requests] == ["required", "auto"]
    assert all(each.options == {"max_tokens": 99} for each in daemon.requests)


def where(place: Place, unit: Unit) -> Place:
    assert isinstance(place, Place)
    assert unit is Unit.KELVIN
    return place


def test_models_and_enumerations_come_as_such_and_go_as_json(run_tools: Callable[..., Any]) -> None:
    call = ToolCall("1", "where", '{"place": {"name": "Bex"}, "unit": "K"}')
    with FakeDaemon([Answer("", tool_calls=[call]), "There."]) as daemon:
        run = run_tools(daemon, tools=[where])
    assert run.messages[2].content == '{"name":"Bex","position":null}'


def broken(place: str) -> str:
    raise LookupError(f"no {place}" + "!" * 5000)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [('{"place": "Ys"}', '{"error": "LookupError: no Ys!!!'), ('{"town": "Ys"}', "unexpected keyword argument 'town'")],
)
def test_what_goes_wrong_is_told_to_the_model(run_tools: Callable[..., Any], arguments: str, told: str) -> None:
    with FakeDaemon([Answer("", tool_calls=[ToolCall("1", "broken", arguments)]), "Sorry."]) as daemon:
        run = run_tools(daemon, tools=[broken])
    assert told in run.messages[2].content
    assert len(run.messages[2].content) < 1100


def test_a_malformed_call_is_answered_with_its_problem(run_tools: Callable[..., Any]) -> None:
    malformed = MalformedToolCall("[TOOL_CALLS]wether[ARGS]{}", "expected one of the tools (weather), got 'wether'")
    with FakeDaemon([Answer("", malformed_tool_calls=[malformed]), "Windy."]) as daemon:
        run = run_tools(daemon, tools=[weather])
    assert run.messages[1:3] == (
        Message("assistant", malformed.text),
        Message("user", f"A tool call was malformed and not run: {malformed.problem}. Try it again."),
    )
    assert run.text == "Windy."


def test_rounds_are_bounded(run_tools: Callable[..., Any]) -> None:
    ran = []

    def again() -> None:
        ran.append(1)

    with FakeDaemon([Answer("", tool_calls=[ToolCall(str(n), "again")]) for n in range(9)]) as daemon:
        run = run_tools(daemon, tools=[again], max_rounds=3)
    assert (run.rounds, len(ran), len(daemon.requests)) == (3, 2, 3)
    assert run.result.finish_reason is FinishReason.TOOL_CALLS
    with FakeDaemon() as daemon, pytest.raises(InvalidRequest, match="max_rounds"):
        run_tools(daemon, tools=[again], max_rounds=0)


def test_coroutines_are_awaited_together_and_refused_without_a_loop() -> None:
    met = asyncio.Event()

    async def first() -> str:
        await met.wait()
        return "first"

    async def second() -> str:
        met.set()
        return "second"

    calls = [ToolCall("1", "first"), ToolCall("2", "second")]

    async def ask(address: str) -> Any:
        async with AsyncClient(address) as client:
            return await client.run_tools("Go", tools=[first, second])

    with FakeDaemon([Answer("", tool_calls=calls), "Done."]) as daemon:
        assert [each.content for each in asyncio.run(ask(daemon.address)).messages[2:4]] == ["first", "second"]
    with FakeDaemon([Answer("", tool_calls=calls[1:]), "Done."]) as daemon, Client(daemon.address) as client:
        run = client.run_tools("Go", tools=[second])
        assert "use AsyncClient.run_tools" in run.messages[2].content


def test_only_functions_can_be_run(client: Client) -> None:
    with pytest.raises(InvalidRequest, match=r"tools\[0\]: expected a function to run"):
        client.run_tools("Hi", tools=[Place])


def test_a_prompt_with_tools_is_counted(client: Client) -> None:
    assert client.count_tokens([Message("user", "Hi")], tools=[weather]).rendered == "user: Hi\n"


def mapping_of(message: Message) -> Mapping[str, object]:
    return {"role": message.role, "tool_calls": [{"id": call.id, "name": call.name} for call in message.tool_calls]}


def test_calls_may_be_mappings(client: Client, daemon: FakeDaemon) -> None:
    client.chat([mapping_of(Message("assistant", "", [TIME])), {"role": "user", "content": "Hi"}])
    assert daemon.requests[0].messages[0].tool_calls == (TIME,)
    with pytest.raises(InvalidRequest, match=r"messages\[0\]"):
        client.chat([{"role": "assistant", "tool_calls": [{"function": {}}]}])
