"""The engine as asyncio sees it: one stream of events for each request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace

from bise_daemon.engine.events import Event, Failed, Finished
from bise_daemon.engine.generation import Generation
from bise_daemon.engine.loop import Deliver, Engine
from bise_daemon.scheduler.forecast import Standing
from bise_daemon.scheduler.request import Request


class Answer:
    """The events of one request. Use it as a context: leaving before the last event aborts the request in one step."""

    def __init__(self, request_id: str, close: Callable[[str, bool], None]) -> None:
        self._request_id = request_id
        self._close = close
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._ended = False

    def put(self, event: Event) -> None:
        """Adds an event."""
        self._events.put_nowait(event)

    async def next_events(self) -> list[Event]:
        """All events since the last call, at least one; the last ever is a `Finished` or `Failed`."""
        events = [await self._events.get()]
        while not self._events.empty():
            events.append(self._events.get_nowait())
        self._ended = isinstance(events[-1], Finished | Failed)
        return events

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *_: object) -> None:
        self._close(self._request_id, self._ended)


class Dispatcher:
    """Brings the engine's events to the requests that wait for them. Belongs to one event loop.

    Args:
        make_engine: builds the engine around the callback that takes its events.
    """

    def __init__(self, make_engine: Callable[[Deliver], Engine]) -> None:
        self._loop = asyncio.get_running_loop()
        self._answers: dict[str, Answer] = {}
        self._submitted: list[Standing] = []
        self._submissions = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.engine = make_engine(self._deliver)

    @property
    def open_requests(self) -> int:
        """Requests submitted and not yet ended."""
        return len(self._answers)

    def submit(self, request: Request, generation: Generation) -> Answer:
        """Hands a request to the engine; the caller must close what it gets."""
        assert request.id not in self._answers, request.id
        answer = Answer(request.id, self._close)
        self._answers[request.id] = answer
        self._idle.clear()
        self._submissions += 1
        # Its real turn is the engine's to give; until then, it comes after all that have one.
        self._submitted.append(replace(Standing.of(request), turn=self._submissions))
        self.engine.submit(request, generation)
        return answer

    def standings(self) -> list[Standing]:
        """How all open requests stand, those included that the engine has not seen yet; copies, to be moved ahead."""
        outlook = self.engine.outlook
        self._submitted = self._submitted[len(self._submitted) - (self._submissions - outlook.taken) :]
        known = [*outlook.standings, *self._submitted]
        return [copy(standing) for standing in known if standing.id in self._answers]

    async def wait_idle(self) -> None:
        """Returns when no request is open."""
        await self._idle.wait()

    def _deliver(self, events: Sequence[tuple[str, Event]]) -> None:
        self._loop.call_soon_threadsafe(self._hand_out, events)

    def _hand_out(self, events: Sequence[tuple[str, Event]]) -> None:
        for request_id, event in events:
            if (answer := self._answers.get(request_id)) is not None:
                answer.put(event)

    def _close(self, request_id: str, ended: bool) -> None:
        if self._answers.pop(request_id, None) is not None and not ended:
            self.engine.abort(request_id)
        if not self._answers:
            self._idle.set()
