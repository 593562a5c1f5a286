"""One stream of a conversation: what its client says, in order, and what it is answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing

from bise_daemon.answering import Answering
from bise_daemon.chat.message import invalid_message
from bise_daemon.dialogue.ahead import Ahead
from bise_daemon.dialogue.dialogue import Dialogue
from bise_daemon.dialogue.held import HeldDialogues
from bise_daemon.dialogue.refused import to_refused
from bise_daemon.dialogue.said import Said
from bise_daemon.errors import Reason, RequestError
from bise_proto.v1.inference_pb2 import ConverseRequest, ConverseResponse, EndOfTurn, Open, Opened

Responses = AsyncGenerator[ConverseResponse, None]


class Exchange:
    """Reads on while an answer is made, so that it can be interrupted.

    Args:
        requests: the client's side; at its end, the answer that is being made is the last one.
        remaining_ms: until the call's own deadline; None where it has none.
        clock: milliseconds.
    """

    def __init__(
        self,
        answering: Answering,
        held: HeldDialogues,
        requests: AsyncIterator[ConverseRequest],
        remaining_ms: Callable[[], float | None],
        clock: Callable[[], float],
    ) -> None:
        self._answering = answering
        self._held = held
        self._requests = requests
        self._remaining_ms = remaining_ms
        self._clock = clock
        self._dialogue = Dialogue(Open())
        self._ahead = Ahead(lambda turn: answering.prepare(self._dialogue.request(turn)))
        self._heard = EndOfTurn()
        self._answer: asyncio.Task[None] | None = None
        self._sent: asyncio.Queue[ConverseResponse | None] = asyncio.Queue()
        self._leaving = False
        self._broken: BaseException | None = None

    async def responses(self) -> Responses:
        """The daemon's side.

        Raises:
            RequestError: what ends the stream; what is wrong with a turn does not.
        """
        self._reading = asyncio.create_task(self._read())
        self._reading.add_done_callback(lambda _: self._sent.put_nowait(None))
        try:
            while (response := await self._sent.get()) is not None:
                yield response
                self._sent.task_done()
            if self._broken is not None:
                raise self._broken
            await self._reading
        finally:
            await self._leave()

    async def _read(self) -> None:
        dialogue_id = await self._open()
        try:
            async for request in self._requests:
                self._answering.check_size(request)
                await self._take(request)
            if self._answer is not None:
                await asyncio.wait({self._answer})
        finally:
            self._leaving = True
            await self._stop()
            self._held.end(dialogue_id, self._clock())

    async def _open(self) -> str:
        request = await anext(self._requests, ConverseRequest())
        if request.WhichOneof("event") != "open":
            raise _out_of_turn("open", request)
        self._answering.check_size(request)
        opening = request.open
        resumed = bool(opening.conversation_id)
        if resumed and opening.messages:
            raise invalid_message("open.messages", "expected none beside conversation_id. Send one of both.")
        if resumed:
            dialogue_id = opening.conversation_id
            self._dialogue = await self._held.resume(dialogue_id, self._move, self._clock())
            self._dialogue.resumed(opening)
        else:
            self._dialogue = Dialogue(opening)
            dialogue_id = self._held.begin(self._dialogue, self._move)
        messages = self._dialogue.messages
        opened = Opened(conversation_id=dialogue_id, resumed=resumed, messages=messages if resumed else ())
        self._sent.put_nowait(ConverseResponse(opened=opened))
        self._look_ahead()
        return dialogue_id

    async def _take(self, request: ConverseRequest) -> None:
        match request.WhichOneof("event"):
            case "heard":
                self._heard = EndOfTurn(text=request.heard.text)
                self._look_ahead()
            case "end_of_turn":
                await self._stop()
                # Who does not read is not answered again before they have.
                await self._sent.join()
                self._heard = EndOfTurn()
                self._answer = asyncio.create_task(self._say(request.end_of_turn))
                self._answer.add_done_callback(self._answered)
                await asyncio.sleep(0)  # begun before it can be interrupted
            case "interrupt":
                await self._stop()
                if request.interrupt.HasField("spoken"):
                    self._dialogue.spoken(request.interrupt.spoken)
                self._look_ahead()
            case _:
                raise _out_of_turn("heard, end_of_turn or interrupt", request)

    async def _say(self, turn: EndOfTurn) -> None:
        request, said = self._dialogue.request(turn), Said()
        try:
            async with aclosing(self._answering.chat(request, self._remaining_ms())) as responses:
                async for response in responses:
                    self._sent.put_nowait(said.take(response))
        except RequestError as error:
            self._sent.put_nowait(to_refused(error))
            return
        except asyncio.CancelledError:
            for last in said.interrupted():
                self._sent.put_nowait(last)
        self._dialogue.answered(turn, said.message)

    def _answered(self, answer: asyncio.Task[None]) -> None:
        if not answer.cancelled() and (error := answer.exception()) is not None:
            self._broken = error
            if not self._leaving:
                self._reading.cancel()
        elif answer is self._answer:
            self._answer = None
            self._look_ahead()

    def _look_ahead(self) -> None:
        """Computes what is heard; during an answer, what the next turn goes on from is not known."""
        if self._answer is None:
            self._ahead.hear(self._heard)

    async def _stop(self) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.cancel()
            await asyncio.wait({answer})
        await self._ahead.stop()

    async def _move(self) -> None:
        """Another stream resumes the conversation."""
        self._broken = RequestError(
            Reason.CONVERSATION_MOVED, "the conversation was resumed on another stream, and goes on there."
        )
        await self._leave()

    async def _leave(self) -> None:
        """Returns when the conversation is on no stream; how it gets there must not be cut short."""
        if not self._leaving:
            self._reading.cancel()
        await asyncio.wait({self._reading})


def _out_of_turn(expected: str, request: ConverseRequest) -> RequestError:
    got = request.WhichOneof("event") or "nothing this daemon knows"
    return invalid_message("event", f"expected {expected}, got {got}. A stream begins with one open.")
