"""The events of a request, its text in phrases."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from bise_daemon.engine.dispatcher import Answer
from bise_daemon.engine.events import Event, Failed, Finished
from bise_daemon.engine.generation import Piece
from bise_daemon.phrases.phraser import Phraser


class PhrasedAnswer:
    """Reads an answer as `Answer` does, a phrase at a time.

    Args:
        clock: milliseconds.
    """

    def __init__(self, answer: Answer, phraser: Phraser, clock: Callable[[], float]) -> None:
        self._answer = answer
        self._phraser = phraser
        self._clock = clock
        self._last: Finished | Failed | None = None

    async def next_events(self) -> list[Event]:
        """The pieces of the next phrase, or the last event."""
        while True:
            if phrase := self._phraser.next_phrase(self._clock()):
                return [*phrase]
            if self._last is not None:
                return [*self._phraser.rest()] or [self._last]
            try:
                async with asyncio.timeout(self._left_s()):
                    events = await self._answer.next_events()
            except TimeoutError:
                continue
            for event in events:
                self._take(event)

    def _take(self, event: Event) -> None:
        now = self._clock()
        if isinstance(event, Piece):
            self._phraser.push(event, now)
            return
        if isinstance(event, Finished) and (event.text or event.calls):
            self._phraser.push(Piece(event.text, None, event.calls), now)
            event = replace(event, text="", calls=())
        self._last = event

    def _left_s(self) -> float | None:
        due_ms = self._phraser.due_ms
        return None if due_ms is None else max(0.0, due_ms - self._clock()) / 1e3
