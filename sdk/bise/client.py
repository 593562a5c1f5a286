"""Client: the calls of AsyncClient for code without an event loop."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Unpack

from bise import wire
from bise.aio import AsyncClient
from bise.loop import LoopThread
from bise.messages import Conversation
from bise.options import Options
from bise.parsing import M
from bise.stream import Stream
from bise.talk import Talk
from bise.tool_loop import ToolLoop, ToolRun
from bise.tools import ToolLike
from bise.types import Health, Result, Status, TokenCount


class Client:
    """Calls the bise daemon; any number of threads may share one client.

    with Client() as client:
        print(client.chat("What is the capital of France?", max_tokens=64).text)

    Arguments, deadlines and errors are those of `AsyncClient`, which does the work on a thread of its own.
    A client that nobody closes is closed when it is collected, or when the process exits. After a fork each
    process makes its own.
    """

    def __init__(self, address: str | None = None, *, timeout: float | None = None) -> None:
        self._inner = AsyncClient(address, timeout=timeout)
        self._loop = LoopThread(farewell=self._inner.close)
        self._finalizer = weakref.finalize(self, self._loop.close)

    @property
    def address(self) -> str:
        """The daemon's address as a URL."""
        return self._inner.address

    def generate(self, prompt: str | Sequence[int], **options: Unpack[Options]) -> Result:
        """As `AsyncClient.generate`."""
        return self._loop.run(self._inner.generate(prompt, **options))

    def chat(
        self,
        messages: Conversation,
        *,
        tools: Sequence[ToolLike] | None = None,
        tool_choice: str | None = None,
        parallel_tool_calls: bool | None = None,
        continue_final_message: bool = False,
        **options: Unpack[Options],
    ) -> Result:
        """As `AsyncClient.chat`."""
        return self.stream_chat(
            messages,
            tools=tools,
            tool_choice=tool_choice,
            parallel_tool_calls=parallel_tool_calls,
            continue_final_message=continue_final_message,
            **options,
        ).finish()

    def run_tools(
        self,
        messages: Conversation,
        *,
        tools: Sequence[Callable[..., Any]],
        max_rounds: int = 8,
        tool_choice: str | None = None,
        parallel_tool_calls: bool | None = None,
        **options: Unpack[Options],
    ) -> ToolRun:
        """As `AsyncClient.run_tools`, but functions run one after the other on the caller's thread."""
        loop = ToolLoop(messages, tools, max_rounds, tool_choice)
        while (turn := loop.turn) is not None:
            result = self.chat(
                turn.messages,
                tools=loop.tools,
                tool_choice=turn.tool_choice,
                parallel_tool_calls=parallel_tool_calls,
                **options,
            )
            loop.answer([loop.run_sync(call) for call in loop.take(result)])
        return loop.run

    def parse(self, messages: Conversation, response_model: type[M], **options: Unpack[Options]) -> M:
        """As `AsyncClient.parse`."""
        return self._loop.run(self._inner.parse(messages, response_model, **options))

    def stream_generate(self, prompt: str | Sequence[int], **options: Unpack[Options]) -> Stream:
        """As `generate`, but the answer comes as it is made."""
        return Stream(self._inner.stream_generate(prompt, **options), self._loop)

    def stream_chat(
        self,
        messages: Conversation,
        *,
        tools: Sequence[ToolLike] | None = None,
        tool_choice: str | None = None,
        parallel_tool_calls: bool | None = None,
        continue_final_message: bool = False,
        **options: Unpack[Options],
    ) -> Stream:
        """As `chat`, but the answer comes as it is made."""
        stream = self._inner.stream_chat(
            messages,
            tools=tools,
            tool_choice=tool_choice,
            parallel_tool_calls=parallel_tool_calls,
            continue_final_message=continue_final_message,
            **options,
        )
        return Stream(stream, self._loop)

    def converse(
        self,
        messages: Conversation = (),
        *,
        conversation_id: str = "",
        tools: Sequence[ToolLike] | None = None,
        tool_choice: str | None = None,
        parallel_tool_calls: bool | None = None,
        **options: Unpack[Options],
    ) -> Talk:
        """As `AsyncClient.converse`."""
        talk = self._inner.converse(
            messages,
            conversation_id=conversation_id,
            tools=tools,
            tool_choice=tool_choice,
            parallel_tool_calls=parallel_tool_calls,
            **options,
        )
        return Talk(talk, self._loop)

    def count_tokens(
        self,
        prompt: Conversation,
        *,
        tools: Sequence[ToolLike] | None = None,
        tool_choice: str | None = None,
        continue_final_message: bool = False,
        timeout: float | None = None,
    ) -> TokenCount:
        """As `AsyncClient.count_tokens`."""
        return self._loop.run(
            self._inner.count_tokens(
                prompt,
                tools=tools,
                tool_choice=tool_choice,
                continue_final_message=continue_final_message,
                timeout=timeout,
            )
        )

    def status(self, *, timeout: float | None = None) -> Status:
        """As `AsyncClient.status`."""
        return self._loop.run(self._inner.status(timeout=timeout))

    def watch_status(self, *, interval: float = 1.0, timeout: float | None = None) -> Iterator[Status]:
        """As `AsyncClient.watch_status`."""
        watch, silence_s = self._inner.watch(interval, timeout)
        try:
            while (status := self._loop.run(watch.read(silence_s))) is not None:
                yield wire.decode_status(status)
        finally:
            self._loop.post(watch.cancel)

    def health(self, *, timeout: float | None = None) -> Health:
        """As `AsyncClient.health`."""
        return self._loop.run(self._inner.health(timeout=timeout))

    def wait_until_serving(self, *, timeout: float | None = None) -> Health:
        """As `AsyncClient.wait_until_serving`."""
        return self._loop.run(self._inner.wait_until_serving(timeout=timeout))

    def close(self) -> None:
        """Cancels what runs and closes the connection; harmless when repeated."""
        self._finalizer()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
