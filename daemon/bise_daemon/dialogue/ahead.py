"""What is heard of a turn, computed ahead: the newest words only, one prompt at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from bise_daemon.engine.dispatcher import Answer
from bise_daemon.engine.events import Event
from bise_daemon.errors import RequestError
from bise_proto.v1.inference_pb2 import EndOfTurn

# Recognizers revise their words some ten times a second. Who sends thousands gets the newest computed, this far apart.
_PACE_S = 0.02


class Ahead:
    """Belongs to one conversation. What is refused is not computed: the turn is slower, and nobody is told.

    Args:
        submit: hands a turn's prompt to the engine, as if the turn ended so.
    """

    def __init__(self, submit: Callable[[EndOfTurn], Awaitable[Answer]]) -> None:
        self._submit = submit
        self._newest: EndOfTurn | None = None
        self._task: asyncio.Task[None] | None = None
        self._computing: asyncio.Task[list[Event]] | None = None

    def hear(self, turn: EndOfTurn) -> None:
        """Has this computed, and nothing that was heard before it: whatever both have in common stays."""
        self._newest = turn
        if self._computing is not None:
            self._computing.cancel()
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Leaves what is being computed where it is."""
        self._newest = None
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None

    async def _run(self) -> None:
        while self._newest is not None:
            turn, self._newest = self._newest, None
            with suppress(RequestError):
                await self._compute(turn)
            await asyncio.sleep(_PACE_S)
        self._task = None

    async def _compute(self, turn: EndOfTurn) -> None:
        # Not cut short by newer words: a thread that tokenizes goes on in any case, and they would be many.
        with await self._submit(turn) as answer:
            computing = self._computing = asyncio.create_task(answer.next_events())
            try:
                if self._newest is None:
                    await asyncio.wait({computing})
            finally:
                computing.cancel()
                self._computing = None
