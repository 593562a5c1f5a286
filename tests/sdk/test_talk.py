"""Conversations that are spoken, from the caller's side."""

from __future__ import annotations

import pytest

from bise import (
    AsyncClient,
    BiseError,
    Cancelled,
    Client,
    ConversationLost,
    DaemonError,
    FinishReason,
    Message,
    OverBudget,
    ToolCall,
)
from bise.testing import Answer, FakeDaemon, Gate

SYSTEM = {"role": "system", "content": "Be brief."}


def test_words_are_told_and_turns_answered(daemon: FakeDaemon, client: Client) -> None:
    with client.converse([SYSTEM], max_tokens=9, chunking="sentence") as talk:
        talk.hear("what")
        talk.hear("what is")
        stream = talk.answer("What is it?")
        assert [delta.text for delta in stream] == ["Hello", " there"]
        assert stream.result.finish_reason is FinishReason.STOP
        assert talk.answer("Hm?").finish().text == "Hello there"
    first, second = daemon.requests
    assert (first.method, first.heard) == ("Converse", ("what", "what is"))
    assert first.options == {"max_tokens": 9, "chunking": "sentence"}
    assert first.messages == (Message("system", "Be brief."), Message("user", "What is it?"))
    assert second.messages[2:] == (Message("assistant", "Hello there"), Message("user", "Hm?"))
    assert second.heard == ()


def test_an_interruption_ends_the_answer(gated_client: Client, gated_daemon: FakeDaemon, gate: Gate) -> None:
    with gated_client.converse() as talk:
        with talk.answer("Count") as stream:
            gate.open(2)
            deltas = iter(stream)
            assert [next(deltas).text, next(deltas).text] == ["one", " two"]
            talk.interrupt(spoken="one")
            assert list(deltas) == []
            assert stream.result.finish_reason is FinishReason.INTERRUPTED
        assert talk.answer("Go on").finish().text == "fine"
    assert [message.content for message in gated_daemon.requests[1].messages] == ["Count", "one", "Go on"]


@pytest.mark.parametrize("how", ["leave", "cancel", "next turn"])
def test_who_stops_reading_interrupts(gated_client: Client, gated_daemon: FakeDaemon, gate: Gate, how: str) -> None:
    with gated_client.converse() as talk:
        stream = talk.answer("Count")
        gate.open(2)
        with stream:
            next(iter(stream))
            if how == "cancel":
                stream.cancel()
                with pytest.raises(Cancelled):
                    stream.finish()
            if how == "next turn":
                assert talk.answer("Go on").finish().text == "fine"
        if how != "next turn":
            assert talk.answer("Go on").finish().text == "fine"
    assert gated_daemon.requests[0].finished.wait(10)
    assert [message.content for message in gated_daemon.requests[1].messages][::2] == ["Count", "Go on"]


def test_a_turn_that_is_refused_is_raised_and_the_conversation_goes_on() -> None:
    refusal = OverBudget("too slow", numbers={"first_token_ms": 300}, retry_after_s=1.5)
    with FakeDaemon([refusal, "fine"]) as daemon, Client(daemon.address) as client, client.converse() as talk:
        with pytest.raises(OverBudget, match="too slow") as raised:
            talk.answer("Now!").finish()
        assert (raised.value.numbers, raised.value.retry_after_s) == ({"first_token_ms": 300}, 1.5)
        assert talk.answer("Then later").finish().text == "fine"
    assert [message.content for message in daemon.requests[1].messages] == ["Then later"]


def weather(city: str) -> str:
    """How warm it is."""
    return f"20 °C in {city}"


def test_results_of_tools_may_be_a_turn() -> None:
    call = ToolCall("1", "weather", '{"city": "Nice"}')
    with FakeDaemon([Answer("", tool_calls=(call,)), "Warm."]) as daemon, Client(daemon.address) as client:
        with client.converse(tools=[weather], tool_choice="required") as talk:
            assert talk.answer("How warm is it?").finish().tool_calls == (call,)
            result = Message("tool", "20 °C in Nice", tool_call_id="1", name="weather")
            assert talk.answer(messages=[result]).finish().text == "Warm."
        first, second = daemon.requests
    assert ([tool.name for tool in first.tools], first.tool_choice) == (["weather"], "required")
    assert second.messages == (Message("user", "How warm is it?"), Message("assistant", tool_calls=(call,)), result)


def test_a_conversation_can_be_resumed(client: Client) -> None:
    with client.converse([SYSTEM]) as talk:
        assert talk.messages == ()
        talk.answer("Hi").finish()
        name = talk.conversation_id
    with client.converse(conversation_id=name) as talk:
        assert [message.content for message in talk.messages] == ["Be brief.", "Hi", "Hello there"]
        assert talk.conversation_id == name
    with pytest.raises(ConversationLost), client.converse(conversation_id="nobody's"):
        pass


def test_nothing_is_sent_before_a_conversation_is_entered(daemon: FakeDaemon, client: Client) -> None:
    talk = client.converse()
    with pytest.raises(RuntimeError, match="not open yet"):
        talk.conversation_id  # noqa: B018
    assert talk.answer("Hi").finish().text == "Hello there"
    talk.cancel()


def test_a_conversation_that_is_over_says_so(client: Client) -> None:
    with client.converse() as talk:
        pass
    for call in (lambda: talk.hear("x"), lambda: talk.answer("x").finish(), talk.interrupt):
        with pytest.raises(Cancelled):
            call()


def test_a_daemon_that_goes_away_is_told() -> None:
    with FakeDaemon() as daemon, Client(daemon.address, timeout=10) as client, client.converse() as talk:
        daemon.stop()
        with pytest.raises(BiseError):
            talk.answer("Hi").finish()
        with pytest.raises(BiseError):
            talk.hear("x")


def test_a_script_that_runs_out_fails_the_turn() -> None:
    with FakeDaemon([]) as daemon, Client(daemon.address) as client, client.converse() as talk:
        stream = talk.answer("Hi")
        with pytest.raises(DaemonError, match="script has 0 answers"):
            stream.finish()
        stream.cancel()


async def test_without_a_thread(daemon: FakeDaemon) -> None:
    async with AsyncClient(daemon.address) as client, client.converse([SYSTEM]) as talk:
        await talk.hear("h")
        async with talk.answer("Hi") as stream:
            assert [delta.text async for delta in stream] == ["Hello", " there"]
        await talk.interrupt("Hello")
        assert (await talk.answer("Hm").finish()).text == "Hello there"
    assert [message.content for message in daemon.requests[1].messages][2] == "Hello"
