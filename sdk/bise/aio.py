"""AsyncClient: every call of the daemon, for asyncio. The one implementation; `Client` runs it on a thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Any, Unpack

from grpc_health.v1 import health_pb2

from bise import options as _options
from bise import wire
from bise.address import default_url, parse
from bise.connection import Connection, ServerStream
from bise.errors import DaemonUnavailable, DeadlineExceeded, InvalidRequest
from bise.messages import Conversation
from bise.options import Options
from bise.parsing import M, parsed, with_schema
from bise.rpc_error import unavailable
from bise.stream import AsyncStream
from bise.talk import AsyncTalk
from bise.tool_loop import ToolLoop, ToolRun
from bise.tools import ToolLike
from bise.types import Health, Result, Status, TokenCount
from bise_proto.v1 import device_pb2
from bise_proto.v1 import inference_pb2 as pb

# The daemon ends an answer at its budget, within one step; the connection's own deadline comes this much later,
# so that the best answer so far still arrives. The largest model measured takes 0.5 s a step.
_GRACE_S = 1.0
_WATCH_INTERVAL_S = (0.1, 60.0)
_RECONNECT_PAUSE_S = 0.05


class AsyncClient:
    """Calls the bise daemon from asyncio.

    async with AsyncClient() as client:
        result = await client.chat("What is the capital of France?", max_tokens=64)

    Args:
        address: `unix:///path/to.sock` or `tcp://host:port`. By default `$BISE_ADDRESS`, else the user's own socket
            `$XDG_RUNTIME_DIR/bise.sock`, else the system's `/run/bise/bise.sock`.
        timeout: seconds each call may take unless it says otherwise. To give it is to state a budget for every
            generation, as their own `timeout` does: the daemon promises to keep it, or refuses with `OverBudget`.
            By default nothing is stated and calls are cut off after 60 seconds, generations with the answer so far.

    Every call ends by its timeout. Options are keywords, see `bise.Options`; errors are those of `bise.errors`.
    Nothing is sent before the first call; a client belongs to the event loop that made that call.

    Raises:
        InvalidRequest: the address or the timeout is none.
    """

    def __init__(self, address: str | None = None, *, timeout: float | None = None) -> None:
        self._address = parse(address or default_url())
        self._stated_s = None if timeout is None else _options.timeout_s(timeout)
        self._connection = Connection(self._address)

    @property
    def address(self) -> str:
        """The daemon's address as a URL."""
        return self._address.url

    async def generate(self, prompt: str | Sequence[int], **options: Unpack[Options]) -> Result:
        """Continues a raw prompt, or token ids, and returns the whole answer.

        Raises:
            BiseError: see `bise.errors`.
        """
        return await self.stream_generate(prompt, **options).finish()

    async def chat(
        self,
        messages: Conversation,
        *,
        tools: Sequence[ToolLike] | None = None,
        tool_choice: str | None = None,
        parallel_tool_calls: bool | None = None,
        continue_final_message: bool = False,
        **options: Unpack[Options],
    ) -> Result:
        """Answers a conversation in the model's own chat format; a plain text is one user message.

        Args:
            tools: what the model may ask to be run: functions, described by their signatures and docstrings, pydantic
                models, mappings in OpenAI's form, or `bise.Tool`s.
            tool_choice: "auto", the default: the model answers or calls; "none": it answers; "required": it calls at
                least one; or the name of the one it calls. Calls that it must make have arguments as described.
            parallel_tool_calls: whether there may be several calls in an answer; by default there may.
            continue_final_message: the last message is an assistant's, and the answer goes on from its text.

        Raises:
            BiseError: see `bise.errors`.
        """
        chat = wire.encode_chat(messages, tools, tool_choice, parallel_tool_calls, continue_final_message)
        return await self._stream_chat(chat, options).finish()

    async def run_tools(
        self,
        messages: Conversation,
        *,
        tools: Sequence[Callable[..., Any]],
        max_rounds: int = 8,
        tool_choice: str | None = None,
        parallel_tool_calls: bool | None = None,
        **options: Unpack[Options],
    ) -> ToolRun:
        """As `chat`, but runs the functions the model calls, and goes on with their results until it answers.

        Functions may be coroutines; others run in threads. What they raise is told to the model, as is what is wrong
        with a malformed call. A call that is required (`tool_choice`) is so in the first round only.

        Args:
            max_rounds: answers of the model at most. Where the last still asks for calls, they are not run.
            options: of each round, `timeout` too.

        Raises:
            BiseError: see `bise.errors`.
        """
        loop = ToolLoop(messages, tools, max_rounds, tool_choice)
        while (turn := loop.turn) is not None:
            result = await self.chat(
                turn.messages,
                tools=loop.tools,
                tool_choice=turn.tool_choice,
                parallel_tool_calls=parallel_tool_calls,
                **options,
            )
            calls = loop.take(result)
            loop.answer(await asyncio.gather(*(loop.run_async(call) for call in calls)))
        return loop.run

    async def parse(self, messages: Conversation, response_model: type[M], **options: Unpack[Options]) -> M:
        """Answers a conversation with a value of a pydantic model: its schema is the answer's format.

        Raises:
            InvalidRequest: `response_model` is no pydantic model, or its schema asks for what can't be kept.
            BiseError: see `bise.errors`.
            pydantic.ValidationError: what the model checks beyond its schema does not hold.
        """
        return parsed(response_model, await self.chat(messages, **with_schema(response_model, options)))

    def stream_generate(self, prompt: str | Sequence[int], **options: Unpack[Options]) -> AsyncStream:
        """As `generate`, but the answer comes as it is made."""
        request = wire.encode_prompt(prompt, self._encode(options))
        return self._answer("Generate", request, options)

    def stream_chat(
        self,
        messages: Conversation,
        *,
        tools: Sequence[ToolLike] | None = None,
        tool_choice: str | None = None,
        parallel_tool_calls: bool | None = None,
        continue_final_message: bool = False,
        **options: Unpack[Options],
    ) -> AsyncStream:
        """As `chat`, but the answer comes as it is made."""
        chat = wire.encode_chat(messages, tools, tool_choice, parallel_tool_calls, continue_final_message)
        return self._stream_chat(chat, options)

    def converse(
        self,
        messages: Conversation = (),
        *,
        conversation_id: str = "",
        tools: Sequence[ToolLike] | None = None,
        tool_choice: str | None = None,
        parallel_tool_calls: bool | None = None,
        **options: Unpack[Options],
    ) -> AsyncTalk:
        """A conversation that is spoken: words are told as they are heard, and answers asked for turn by turn.

        Args:
            messages: what was said before: a system message, earlier turns.
            conversation_id: of one to go on with, instead of `messages`.
            tools: of each answer, as are `tool_choice` and `parallel_tool_calls`; see `chat`.
            options: of each answer; a `timeout` is an answer's.
        """
        chat = wire.encode_chat(messages, tools, tool_choice, parallel_tool_calls, False)
        opening = pb.Open(
            conversation_id=conversation_id,
            messages=chat.messages,
            options=self._encode(options),
            tools=chat.tools,
            # Resumed, a conversation keeps its own choice unless there is another.
            tool_choice=None if tool_choice is None and parallel_tool_calls is None else chat.tool_choice,
        )
        return AsyncTalk(self._connection, opening, self._seconds(options.get("timeout")) + _GRACE_S)

    async def count_tokens(
        self,
        prompt: Conversation,
        *,
        tools: Sequence[ToolLike] | None = None,
        tool_choice: str | None = None,
        continue_final_message: bool = False,
        timeout: float | None = None,
    ) -> TokenCount:
        """How the daemon tokenizes a raw prompt (a text) or a conversation (messages); nothing is generated.

        Args:
            tools: of a conversation, as are `tool_choice` and `continue_final_message`; see `chat`.

        Raises:
            BiseError: see `bise.errors`.
        """
        request = (
            pb.CountTokensRequest(prompt=wire.encode_prompt(prompt, pb.Options()).prompt)
            if isinstance(prompt, str)
            else pb.CountTokensRequest(chat=wire.encode_chat(prompt, tools, tool_choice, None, continue_final_message))
        )
        seconds = self._seconds(timeout)
        stubs = self._connection
        return wire.decode_count(await stubs.unary(lambda: stubs.inference.CountTokens(request, timeout=seconds)))

    async def status(self, *, timeout: float | None = None) -> Status:
        """The daemon's view of itself and of the device.

        Raises:
            BiseError: see `bise.errors`.
        """
        seconds = self._seconds(timeout)
        stubs = self._connection
        request = device_pb2.GetStatusRequest()
        return wire.decode_status(await stubs.unary(lambda: stubs.device.GetStatus(request, timeout=seconds)))

    async def watch_status(self, *, interval: float = 1.0, timeout: float | None = None) -> AsyncIterator[Status]:
        """The status now, then again every `interval` seconds, until the caller leaves the loop.

        Raises:
            BiseError: see `bise.errors`; DeadlineExceeded when the daemon is silent for interval + timeout seconds.
        """
        watch, silence_s = self.watch(interval, timeout)
        try:
            while (status := await watch.read(silence_s)) is not None:
                yield wire.decode_status(status)
        finally:
            watch.cancel()

    def watch(self, interval: float, timeout: float | None) -> tuple[ServerStream[device_pb2.Status], float]:
        """The raw stream behind `watch_status`, and the seconds it may be silent."""
        shortest, longest = _WATCH_INTERVAL_S
        if not shortest <= interval <= longest:
            raise InvalidRequest(
                f"interval: expected {shortest:g} to {longest:g} seconds, got {interval!r}",
                reason="INVALID_OPTION",
                numbers={"field": "interval"},
            )
        stubs = self._connection
        request = device_pb2.WatchStatusRequest(interval_ms=round(interval * 1000))
        return ServerStream(stubs, lambda: stubs.device.WatchStatus(request)), interval + self._seconds(timeout)

    async def health(self, *, timeout: float | None = None) -> Health:
        """Whether the daemon can answer now, by the standard gRPC health check.

        Raises:
            BiseError: see `bise.errors`.
        """
        seconds = self._seconds(timeout)
        stubs = self._connection
        request = health_pb2.HealthCheckRequest()
        return wire.decode_health(await stubs.unary(lambda: stubs.health.Check(request, timeout=seconds)))

    async def wait_until_serving(self, *, timeout: float | None = None) -> Health:
        """Waits until the daemon is there and serving, at most `timeout` seconds, and returns its last health.

        Raises:
            DaemonUnavailable: no daemon came in this time.
        """
        clock = asyncio.get_running_loop().time
        seconds = self._seconds(timeout)
        ends = clock() + seconds
        last: Health | None = None
        while last is not Health.SERVING and (left_s := ends - clock()) > 0:
            try:
                async for last in self._watch_health(left_s):
                    if last is Health.SERVING:
                        break
            except DeadlineExceeded:
                break
            except DaemonUnavailable:
                last = None
                await asyncio.sleep(_RECONNECT_PAUSE_S)
        if last is None:
            raise unavailable(self._address, f"nothing in {seconds:g} s")
        return last

    async def close(self) -> None:
        """Cancels what runs and closes the connection; harmless when repeated."""
        await self._connection.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _watch_health(self, left_s: float) -> AsyncIterator[Health]:
        """The health now and at each change; waits for a daemon that is not there yet."""
        stubs = self._connection
        request = health_pb2.HealthCheckRequest()
        watch: ServerStream[Any] = ServerStream(
            stubs, lambda: stubs.health.Watch(request, timeout=left_s, wait_for_ready=True)
        )
        try:
            while (response := await watch.read()) is not None:
                yield wire.decode_health(response)
        finally:
            watch.cancel()

    def _stated(self, timeout: float | None) -> float | None:
        """What the call states, else what the client does."""
        return self._stated_s if timeout is None else timeout

    def _seconds(self, timeout: float | None) -> float:
        return _options.timeout_s(self._stated(timeout))

    def _encode(self, options: Options) -> pb.Options:
        return _options.encode({**options, "timeout": self._stated(options.get("timeout"))})

    def _stream_chat(self, chat: pb.Messages, options: Options) -> AsyncStream:
        request = pb.ChatRequest(
            messages=chat.messages,
            options=self._encode(options),
            tools=chat.tools,
            tool_choice=chat.tool_choice,
            continue_final_message=chat.continue_final_message,
        )
        return self._answer("Chat", request, options)

    def _answer(self, method: str, request: object, options: Options) -> AsyncStream:
        seconds = self._seconds(options.get("timeout")) + _GRACE_S
        stubs = self._connection
        return AsyncStream(ServerStream(stubs, lambda: getattr(stubs.inference, method)(request, timeout=seconds)))
