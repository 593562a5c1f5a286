"""An answer as it comes: Delta by Delta, then a Result."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Protocol

from bise.errors import BiseError, DaemonError
from bise.loop import LoopThread
from bise.messages import ToolCallDelta
from bise.types import Accepted, Delta, Result, TokenLogprob
from bise.wire import decode_accepted, decode_calls, decode_delta, decode_done
from bise_proto.v1 import inference_pb2 as pb


class Events(Protocol):
    """Where an answer comes from."""

    async def read(self) -> pb.GenerateResponse | None:
        """The next event, or None at the end."""
        ...

    def cancel(self) -> None:
        """Stops the answer; harmless when it is over."""
        ...


class AsyncStream:
    """An answer as it comes; leaving the `async with` or the `async for` cancels what is left of it.

    async with client.stream_chat("Tell me a story.") as stream:
        print(stream.accepted.granted_max_tokens)
        async for delta in stream:
            print(delta.text, end="")
    print(stream.result.finish_reason)

    The request is sent when the stream is entered or first iterated; a refusal is raised there.
    """

    def __init__(self, events: Events) -> None:
        self._events = events
        self._accepted: Accepted | None = None
        self._result: Result | None = None
        self._texts: list[str] = []
        self._token_ids: list[int] = []
        self._logprobs: list[TokenLogprob] = []
        self._calls: list[ToolCallDelta] = []

    @property
    def accepted(self) -> Accepted:
        """What the daemon promised; known inside the `with` and from the first Delta on.

        Raises:
            RuntimeError: the request was not sent yet, or not accepted.
        """
        if self._accepted is None:
            raise RuntimeError("the request is not accepted yet: enter the stream with `with`, or iterate it")
        return self._accepted

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(self._texts)

    @property
    def done(self) -> bool:
        """Whether the answer is whole and `result` can be read."""
        return self._result is not None

    @property
    def result(self) -> Result:
        """The whole answer.

        Raises:
            RuntimeError: the answer is not read to its end.
        """
        if self._result is None:
            raise RuntimeError("the answer is not whole: read the stream to its end, or call finish()")
        return self._result

    async def finish(self) -> Result:
        """Reads what is left, and returns the whole answer."""
        async for _ in self:
            pass
        return self.result

    def cancel(self) -> None:
        """Stops the answer; harmless when it is over."""
        self._events.cancel()

    async def __aenter__(self) -> AsyncStream:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()

    async def __aiter__(self) -> AsyncIterator[Delta]:
        try:
            while (delta := await self.read()) is not None:
                yield delta
        finally:
            self.cancel()

    async def start(self) -> None:
        """Sends the request and waits until it is accepted; does nothing when it is.

        Raises:
            BiseError: the request was refused or failed.
        """
        if self._accepted is None:
            event = await self._next_event("accepted")
            self._accepted = decode_accepted(event.accepted)

    async def read(self) -> Delta | None:
        """The next Delta, or None when the answer is whole.

        Raises:
            BiseError: the answer failed; `partial` has the text so far.
        """
        if self.done:
            return None
        await self.start()
        event = await self._next_event("delta", "done")
        if event.HasField("delta"):
            delta = decode_delta(event.delta)
            self._texts.append(delta.text)
            self._token_ids += delta.token_ids
            self._logprobs += delta.logprobs
            self._calls += delta.tool_calls
            return delta
        calls, malformed = decode_calls(self._calls, event.done)
        self._result = Result(
            self.text,
            *decode_done(event.done),
            accepted=self.accepted,
            token_ids=tuple(self._token_ids),
            logprobs=tuple(self._logprobs),
            closed_early=event.done.closed_early,
            tool_calls=calls,
            malformed_tool_calls=malformed,
        )
        await self._expect_end()
        return None

    async def _next_event(self, *expected: str) -> pb.GenerateResponse:
        try:
            event = await self._events.read()
        except BiseError as error:
            error.partial = self.text
            raise
        kind = event.WhichOneof("event") if event is not None else "the end of the stream"
        if event is None or kind not in expected:
            self.cancel()
            raise DaemonError(f"expected {' or '.join(expected)} from the daemon, got {kind}", partial=self.text)
        return event

    async def _expect_end(self) -> None:
        """Lets the call end by itself, so that the daemon sees a finished answer and not a cancelled one."""
        if await self._events.read() is not None:
            raise DaemonError("expected the end of the stream after done, got another message", partial=self.text)


class Stream:
    """An answer as it comes; leaving the `with` or the `for` cancels what is left of it.

    with client.stream_chat("Tell me a story.") as stream:
        for delta in stream:
            print(delta.text, end="", flush=True)
    print(stream.result.timings.tokens_per_second)

    Attributes and errors are those of `AsyncStream`; any thread may call `cancel`.
    """

    def __init__(self, stream: AsyncStream, loop: LoopThread) -> None:
        self._stream = stream
        self._loop = loop

    @property
    def accepted(self) -> Accepted:
        """As `AsyncStream.accepted`."""
        return self._stream.accepted

    @property
    def text(self) -> str:
        """The answer so far."""
        return self._stream.text

    @property
    def done(self) -> bool:
        """Whether the answer is whole and `result` can be read."""
        return self._stream.done

    @property
    def result(self) -> Result:
        """As `AsyncStream.result`."""
        return self._stream.result

    def finish(self) -> Result:
        """Reads what is left, and returns the whole answer."""
        return self._loop.run(self._stream.finish())

    def cancel(self) -> None:
        """Stops the answer; harmless when it is over."""
        self._loop.post(self._stream.cancel)

    def __enter__(self) -> Stream:
        self._loop.run(self._stream.start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()

    def __iter__(self) -> Iterator[Delta]:
        try:
            while (delta := self._loop.run(self._stream.read())) is not None:
                yield delta
        finally:
            self.cancel()
