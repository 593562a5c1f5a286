"""A conversation that is spoken: words as they are heard, and answers turn by turn, over one stream."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType

from bise.connection import Connection, DuplexStream
from bise.errors import BiseError, Cancelled, DaemonError, DeadlineExceeded
from bise.loop import LoopThread
from bise.messages import Conversation, Message
from bise.rpc_error import from_refused
from bise.stream import AsyncStream, Stream
from bise.wire import decode_messages, encode_messages
from bise_proto.v1 import inference_pb2 as pb


class AsyncTalk:
    """A conversation that is spoken; leaving the `async with` ends its stream, and an answer that is still made.

    async with client.converse([{"role": "system", "content": "Be brief."}], chunking="sentence") as talk:
        await talk.hear("what is")
        await talk.hear("what is the weather")
        async for delta in talk.answer("What is the weather like?"):
            speak(delta.text)

    The daemon computes what it hears ahead, so the answer begins about a step after `answer`; its tokens are those that
    `chat` would give. What was said is kept by the daemon: some minutes longer than the stream, so that a connection
    that broke can go on with `converse(conversation_id=…)`.
    """

    def __init__(self, connection: Connection, opening: pb.Open, seconds: float) -> None:
        self._events: DuplexStream[pb.ConverseRequest, pb.ConverseResponse] = DuplexStream(
            connection, lambda: connection.inference.Converse()
        )
        self._opening = opening
        self._seconds = seconds
        self._opened: pb.Opened | None = None
        self._begun = 0
        self._ended = 0
        self._posted: set[asyncio.Task[None]] = set()

    @property
    def conversation_id(self) -> str:
        """To resume by; a secret, since it opens what was said.

        Raises:
            RuntimeError: the conversation is not open.
        """
        return self._known().conversation_id

    @property
    def messages(self) -> tuple[Message, ...]:
        """What was said before, as the daemon has it, when the conversation is resumed."""
        return decode_messages(self._known().messages)

    async def hear(self, text: str) -> None:
        """Tells the user's words of this turn so far; each replaces those before, and need not begin like them.

        Raises:
            BiseError: see `bise.errors`.
        """
        await self._send(pb.ConverseRequest(heard=pb.Heard(text=text)))

    def answer(self, text: str = "", *, messages: Conversation = ()) -> AsyncStream:
        """The answer to all that the user said in this turn; one that is still made is interrupted.

        Leaving the stream early interrupts it. What is wrong with a turn is raised by its stream, and the conversation
        goes on without the turn.

        Args:
            messages: before the text, or instead of it: results of tools.
        """
        turn = pb.EndOfTurn(text=text, messages=encode_messages(messages))
        return AsyncStream(_Turn(self, turn, self._seconds))

    async def interrupt(self, spoken: str | None = None) -> None:
        """The user spoke in between: ends the answer that is being made, as "interrupted".

        Args:
            spoken: what was spoken of the last answer, whole or not: the conversation goes on from that. By default
                all that came.
        """
        await self._send(pb.ConverseRequest(interrupt=pb.Interrupt(spoken=spoken)))

    async def start(self) -> None:
        """Opens the conversation; does nothing when it is open.

        Raises:
            ConversationLost: the daemon does not hold the conversation to be resumed.
            BiseError: see `bise.errors`.
        """
        if self._opened is None:
            await self._events.write(pb.ConverseRequest(open=self._opening))
            event = await self._read(self._seconds)
            if not event.HasField("opened"):
                raise DaemonError(f"expected opened from the daemon, got {event.WhichOneof('event')}")
            self._opened = event.opened

    def cancel(self) -> None:
        """Ends the stream; harmless when it is over."""
        self._events.cancel()

    async def __aenter__(self) -> AsyncTalk:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()

    def _known(self) -> pb.Opened:
        if self._opened is None:
            raise RuntimeError("the conversation is not open yet: enter it with `with`, or say something")
        return self._opened

    async def _send(self, request: pb.ConverseRequest) -> None:
        await self.start()
        await self._events.write(request)

    async def _read(self, timeout_s: float) -> pb.ConverseResponse:
        event = await self._events.read(timeout_s)
        if event is None:
            raise DaemonError("expected the conversation to go on, got its end")
        return event

    async def _begin_turn(self, turn: pb.EndOfTurn) -> int:
        """Ends the user's turn; its number, from 1."""
        await self._send(pb.ConverseRequest(end_of_turn=turn))
        self._begun += 1
        return self._begun

    async def _read_turn(self, number: int, timeout_s: float) -> pb.ConverseResponse:
        """The next event of a turn; what is left of those before is passed over."""
        while True:
            before = self._ended
            event = await self._read(timeout_s)
            self._ended += event.WhichOneof("event") in ("done", "refused")
            if before == number - 1:
                return event

    def _leave_turn(self, number: int) -> None:
        """A turn's answer is not read on; unless it is over, it is interrupted."""
        if self._ended < number == self._begun:
            task = asyncio.get_running_loop().create_task(self._interrupt_quietly())
            self._posted.add(task)
            task.add_done_callback(self._posted.discard)

    async def _interrupt_quietly(self) -> None:
        try:
            await self.interrupt()
        except BiseError:
            return  # then there is nothing left to interrupt


class _Turn:
    """The events of one turn, as a stream reads those of a call."""

    def __init__(self, talk: AsyncTalk, turn: pb.EndOfTurn, seconds: float) -> None:
        self._talk = talk
        self._turn = turn
        self._seconds = seconds
        self._number = 0
        self._over = False
        self._cancelled = False

    async def read(self) -> pb.GenerateResponse | None:
        """The next event; the first read ends the user's turn."""
        if self._cancelled:
            raise Cancelled("the answer was cancelled: its stream was closed")
        if self._over:
            return None
        clock = asyncio.get_running_loop().time
        if not self._number:
            self._ends = clock() + self._seconds
            self._number = await self._talk._begin_turn(self._turn)
        if (left_s := self._ends - clock()) <= 0:
            raise DeadlineExceeded(f"the answer was not complete after {self._seconds:g} s.")
        event = await self._talk._read_turn(self._number, left_s)
        if event.HasField("refused"):
            self._over = True
            raise from_refused(event.refused)
        self._over = event.HasField("done")
        kind = event.WhichOneof("event")
        return pb.GenerateResponse(**{kind: getattr(event, kind)}) if kind else pb.GenerateResponse()

    def cancel(self) -> None:
        """Interrupts the answer; harmless when it is over."""
        if self._number and not (self._over or self._cancelled):
            self._talk._leave_turn(self._number)
        self._cancelled = not self._over


class Talk:
    """A conversation that is spoken; leaving the `with` ends its stream, and an answer that is still made.

    with client.converse(chunking="sentence") as talk:
        talk.hear("what is")
        for delta in talk.answer("What is the weather like?"):
            speak(delta.text)

    Attributes and errors are those of `AsyncTalk`; any thread may call `hear` and `interrupt`.
    """

    def __init__(self, talk: AsyncTalk, loop: LoopThread) -> None:
        self._talk = talk
        self._loop = loop

    @property
    def conversation_id(self) -> str:
        """As `AsyncTalk.conversation_id`."""
        return self._talk.conversation_id

    @property
    def messages(self) -> Sequence[Message]:
        """As `AsyncTalk.messages`."""
        return self._talk.messages

    def hear(self, text: str) -> None:
        """As `AsyncTalk.hear`."""
        self._loop.run(self._talk.hear(text))

    def answer(self, text: str = "", *, messages: Conversation = ()) -> Stream:
        """As `AsyncTalk.answer`."""
        return Stream(self._talk.answer(text, messages=messages), self._loop)

    def interrupt(self, spoken: str | None = None) -> None:
        """As `AsyncTalk.interrupt`."""
        self._loop.run(self._talk.interrupt(spoken))

    def cancel(self) -> None:
        """Ends the stream; harmless when it is over."""
        self._loop.post(self._talk.cancel)

    def __enter__(self) -> Talk:
        self._loop.run(self._talk.start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()
