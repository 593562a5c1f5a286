"""One stream of a conversation, with scripted answers: what is said in which order, and what comes of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import cast

import pytest

from bise_daemon.answering import Answering
from bise_daemon.dialogue.exchange import Exchange
from bise_daemon.dialogue.held import HeldDialogues
from bise_daemon.engine.dispatcher import Answer
from bise_daemon.errors import Reason, RequestError
from bise_proto.v1 import inference_pb2 as pb

_PATIENCE_S = 20
OPEN = pb.ConverseRequest(open=pb.Open())


def heard(text: str) -> pb.ConverseRequest:
    return pb.ConverseRequest(heard=pb.Heard(text=text))


def turn(text: str) -> pb.ConverseRequest:
    return pb.ConverseRequest(end_of_turn=pb.EndOfTurn(text=text))


def interrupt(spoken: str | None = None) -> pb.ConverseRequest:
    return pb.ConverseRequest(interrupt=pb.Interrupt(spoken=spoken))


class ScriptedAnswering:
    """Answers "One two three." word by word; each word waits until it may be said.

    Attributes:
        asked: what answers were asked for: the contents of their messages.
        prepared: the last contents of prompts computed ahead.
        left: answers and prompts that were given up.
    """

    def __init__(self, words: int = 1000) -> None:
        self.words = asyncio.Semaphore(words)
        self.asked: list[list[str]] = []
        self.prepared: list[str] = []
        self.left: list[str] = []

    async def chat(
        self, request: pb.ChatRequest, remaining_ms: float | None
    ) -> AsyncGenerator[pb.GenerateResponse, None]:
        assert remaining_ms == 7.0
        contents = [message.content for message in request.messages]
        if contents[-1] == "refuse":
            raise RequestError(Reason.BUDGET, "busy.", numbers={"open": 3}, retry_after_ms=50)
        if contents[-1] == "break":
            raise ZeroDivisionError
        self.asked.append(contents)
        try:
            yield pb.GenerateResponse(accepted=pb.Accepted(prompt_tokens=len(contents)))
            for word in ("One", " two", " three."):
                await self.words.acquire()
                yield pb.GenerateResponse(delta=pb.Delta(text=word, token_ids=[len(word)]))
        except (GeneratorExit, asyncio.CancelledError):
            self.left.append(contents[-1])
            raise
        yield pb.GenerateResponse(done=pb.Done(finish_reason=pb.STOP))

    async def prepare(self, request: pb.ChatRequest) -> Answer:
        self.prepared.append(request.messages[-1].content)
        return Answer(f"ahead: {self.prepared[-1]}", lambda name, _ended: self.left.append(name))

    def check_size(self, request: pb.ConverseRequest) -> None:
        if request.ByteSize() > 1000:
            raise RequestError(Reason.MESSAGE_TOO_LARGE, "too large.")


class Stream:
    """Both sides of one."""

    def __init__(self, answering: ScriptedAnswering, held: HeldDialogues) -> None:
        self._requests: asyncio.Queue[pb.ConverseRequest | None] = asyncio.Queue()
        exchange = Exchange(cast(Answering, answering), held, self._read(), lambda: 7.0, lambda: 0.0)
        self.responses = exchange.responses()

    async def _read(self) -> AsyncIterator[pb.ConverseRequest]:
        while (request := await self._requests.get()) is not None:
            yield request

    def say(self, *requests: pb.ConverseRequest | None) -> None:
        """Sends these; None closes the client's side."""
        for request in requests:
            self._requests.put_nowait(request)

    async def next(self) -> pb.ConverseResponse:
        async with asyncio.timeout(_PATIENCE_S):
            return await anext(self.responses)

    async def until(self, kind: str) -> list[pb.ConverseResponse]:
        """Responses up to the first of a kind."""
        found = [await self.next()]
        while found[-1].WhichOneof("event") != kind:
            found.append(await self.next())
        return found

    async def rest(self) -> list[str]:
        async with asyncio.timeout(_PATIENCE_S):
            return [str(response.WhichOneof("event")) async for response in self.responses]


class Desk:
    def __init__(self) -> None:
        self.answering = ScriptedAnswering()
        self.held = HeldDialogues(10_000)
        self.streams: list[Stream] = []

    def stream(self) -> Stream:
        self.streams.append(Stream(self.answering, self.held))
        return self.streams[-1]

    async def opened(self, opening: pb.ConverseRequest = OPEN) -> tuple[Stream, pb.Opened]:
        stream = self.stream()
        stream.say(opening)
        return stream, (await stream.next()).opened


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = Desk()
    yield desk
    for stream in desk.streams:
        await stream.responses.aclose()


async def settled() -> None:
    """Lets everything run that can."""
    for _ in range(50):
        await asyncio.sleep(0)


def text(responses: list[pb.ConverseResponse]) -> str:
    return "".join(response.delta.text for response in responses)


async def resume(desk: Desk, dialogue_id: str) -> tuple[Stream, list[tuple[str, str]]]:
    stream, opened = await desk.opened(pb.ConverseRequest(open=pb.Open(conversation_id=dialogue_id)))
    assert opened.resumed
    assert opened.conversation_id == dialogue_id
    return stream, [(message.role, message.content) for message in opened.messages]


async def test_turn_after_turn(desk: Desk) -> None:
    stream, opened = await desk.opened()
    assert opened.conversation_id
    assert not opened.resumed
    for number in range(2):
        stream.say(turn(f"turn {number}"))
        kinds = [response.WhichOneof("event") for response in await stream.until("done")]
        assert kinds == ["accepted", "delta", "delta", "delta", "done"]
    assert desk.answering.asked == [["turn 0"], ["turn 0", "One two three.", "turn 1"]]
    stream.say(None)
    assert await stream.rest() == []


async def test_what_is_heard_is_computed_ahead_and_left_at_the_turns_end(desk: Desk) -> None:
    stream, _ = await desk.opened()
    await settled()
    stream.say(heard("what"))
    await settled()
    stream.say(turn("what now"))
    await stream.until("done")
    await settled()
    assert desk.answering.prepared[0] == ""
    assert desk.answering.prepared[-1] == ""  # of the next turn
    assert desk.answering.asked == [["what now"]]
    assert "ahead: " in desk.answering.left


async def test_what_is_heard_during_an_answer_waits_for_its_end(desk: Desk) -> None:
    desk.answering.words = asyncio.Semaphore(0)
    stream, _ = await desk.opened()
    stream.say(turn("first"))
    await stream.until("accepted")
    stream.say(heard("sec"), heard("second"))
    await settled()
    assert set(desk.answering.prepared) <= {""}
    for _ in range(3):
        desk.answering.words.release()
    await stream.until("done")
    await settled()
    assert desk.answering.prepared[-1] == "second"
    assert "sec" not in desk.answering.prepared


@pytest.mark.parametrize(
    ("spoken", "last"), [(None, ("assistant", "One two")), ("One", ("assistant", "One")), ("", ("user", "first"))]
)
async def test_an_interruption_ends_the_answer_at_once(desk: Desk, spoken: str | None, last: tuple[str, str]) -> None:
    desk.answering.words = asyncio.Semaphore(2)
    stream, opened = await desk.opened()
    stream.say(turn("first"))
    assert text([*await stream.until("delta"), *await stream.until("delta")]) == "One two"
    stream.say(interrupt(spoken))
    (done,) = await stream.until("done")
    assert done.done.finish_reason == pb.INTERRUPTED
    assert done.done.usage == pb.Usage(prompt_tokens=1, completion_tokens=2)
    assert desk.answering.left[-1] == "first"
    stream.say(None)
    assert await stream.rest() == []
    assert (await resume(desk, opened.conversation_id))[1][-1] == last


async def test_what_was_spoken_is_mostly_known_when_the_answer_is_long_over(desk: Desk) -> None:
    stream, _ = await desk.opened()
    stream.say(turn("first"))
    await stream.until("done")
    stream.say(interrupt("One"), turn("second"))
    await stream.until("done")
    assert desk.answering.asked[-1] == ["first", "One", "second"]


async def test_who_ends_a_turn_interrupts_the_answer_before(desk: Desk) -> None:
    desk.answering.words = asyncio.Semaphore(1)
    stream, _ = await desk.opened()
    stream.say(turn("first"))
    await stream.until("delta")
    stream.say(turn("second"))
    assert [response.WhichOneof("event") for response in await stream.until("accepted")] == ["done", "accepted"]
    assert desk.answering.asked[-1] == ["first", "One", "second"]


async def test_an_answer_that_is_interrupted_before_it_begins_is_an_empty_one(desk: Desk) -> None:
    desk.answering.words = asyncio.Semaphore(0)
    stream, _ = await desk.opened()
    stream.say(turn("first"), interrupt(), turn("second"))
    assert text(await stream.until("done")) == ""
    for _ in range(3):
        desk.answering.words.release()
    assert text(await stream.until("done")) == "One two three."
    assert desk.answering.asked[-1] == ["first\nsecond"]


async def test_a_turn_that_is_refused_is_none(desk: Desk) -> None:
    stream, _ = await desk.opened()
    stream.say(turn("refuse"))
    (refused,) = await stream.until("refused")
    assert refused.refused == pb.Refused(reason="BUDGET", numbers={"open": "3"}, message="busy.", retry_after_ms=50)
    stream.say(turn("again"))
    await stream.until("done")
    assert desk.answering.asked == [["again"]]


async def test_a_closed_side_still_hears_the_last_answer(desk: Desk) -> None:
    stream, opened = await desk.opened()
    stream.say(turn("first"), heard("and"), None)
    assert await stream.rest() == ["accepted", "delta", "delta", "delta", "done"]
    _, messages = await resume(desk, opened.conversation_id)
    assert messages == [("user", "first"), ("assistant", "One two three.")]


async def test_who_leaves_has_nothing_under_way_and_can_come_back(desk: Desk) -> None:
    desk.answering.words = asyncio.Semaphore(1)
    stream, opened = await desk.opened()
    stream.say(turn("first"))
    await stream.until("delta")
    await stream.responses.aclose()
    assert desk.answering.left[-1] == "first"
    again, messages = await resume(desk, opened.conversation_id)
    assert messages == [("user", "first"), ("assistant", "One")]
    desk.answering.words = asyncio.Semaphore(3)
    again.say(turn("go on"))
    await again.until("done")
    assert desk.answering.asked[-1] == ["first", "One", "go on"]


async def test_who_resumes_takes_over_what_is_still_on_another_stream(desk: Desk) -> None:
    desk.answering.words = asyncio.Semaphore(1)
    stream, opened = await desk.opened()
    stream.say(turn("first"))
    await stream.until("delta")
    _, messages = await resume(desk, opened.conversation_id)
    assert messages == [("user", "first"), ("assistant", "One")]
    with pytest.raises(RequestError) as moved:
        await stream.rest()
    assert moved.value.reason is Reason.CONVERSATION_MOVED


@pytest.mark.parametrize(
    ("requests", "reason"),
    [
        ([heard("x")], "expected open, got heard"),
        ([None], "expected open, got nothing"),
        ([pb.ConverseRequest()], "expected open, got nothing"),
        ([OPEN, OPEN], "expected heard, end_of_turn or interrupt, got open"),
        ([OPEN, pb.ConverseRequest()], "got nothing this daemon knows"),
        ([OPEN, heard("x" * 2000)], "too large"),
        ([pb.ConverseRequest(open=pb.Open(messages=[pb.Message(content="x" * 2000)]))], "too large"),
        ([pb.ConverseRequest(open=pb.Open(conversation_id="nobody's"))], "not held"),
        ([pb.ConverseRequest(open=pb.Open(conversation_id="x", messages=[pb.Message()]))], "Send one of both"),
    ],
)
async def test_what_breaks_the_rules_ends_the_stream(
    desk: Desk, requests: list[pb.ConverseRequest | None], reason: str
) -> None:
    stream = desk.stream()
    stream.say(*requests)
    with pytest.raises(RequestError, match=reason):
        await stream.rest()


async def test_a_bug_ends_the_stream(desk: Desk) -> None:
    stream, _ = await desk.opened()
    stream.say(turn("break"))
    with pytest.raises(ZeroDivisionError):
        await stream.rest()


async def test_who_never_reads_is_not_answered_twice(desk: Desk) -> None:
    stream = desk.stream()
    stream.say(OPEN)
    await stream.next()
    stream.say(*[turn(str(number)) for number in range(100)])
    await settled()
    assert len(desk.answering.asked) <= 1
    async with aclosing(stream.responses):
        pass
    await settled()
    assert len(desk.answering.asked) <= 1


async def test_thousands_of_words_a_second_are_one_prompt(desk: Desk) -> None:
    stream, _ = await desk.opened()
    stream.say(*[heard(str(number)) for number in range(5000)], turn("5000"))
    await stream.until("done")
    assert len(desk.answering.prepared) < 50
    assert desk.answering.asked == [["5000"]]
