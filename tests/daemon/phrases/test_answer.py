"""The events of a request in phrases; no clock but the test's."""

from __future__ import annotations

import asyncio
from typing import cast

from bise_daemon.engine.dispatcher import Answer
from bise_daemon.engine.events import Event, Failed, Finish, Finished, Times
from bise_daemon.engine.generation import Piece
from bise_daemon.errors import Reason, RequestError
from bise_daemon.phrases.answer import PhrasedAnswer
from bise_daemon.phrases.boundary import SENTENCE
from bise_daemon.phrases.phraser import Phraser
from scripted_engine import ManualClock

FAILED = Failed(RequestError(Reason.ENGINE_FAILED, "broke."))


def finished(text: str = "", finish: Finish = Finish.DEADLINE) -> Finished:
    return Finished(finish, text, 3, Times())


class Scripted:
    """Gives batches of events; then waits, and moves the clock as far as it is given time for."""

    def __init__(self, clock: ManualClock, *batches: list[Event]) -> None:
        self._clock = clock
        self._batches = list(batches)
        self.waits = 0

    async def next_events(self) -> list[Event]:
        if self._batches:
            return self._batches.pop(0)
        self.waits += 1
        self._clock.now += 1000.0
        return await asyncio.Future()


def phrased(*batches: list[Event], max_wait_ms: float | None = None) -> PhrasedAnswer:
    clock = ManualClock()
    return PhrasedAnswer(cast(Answer, Scripted(clock, *batches)), Phraser(SENTENCE, max_wait_ms), clock)


async def texts(answer: PhrasedAnswer) -> tuple[list[str], Event]:
    """Its phrases, and its last event."""
    found = []
    while True:
        events = await answer.next_events()
        if not isinstance(events[-1], Piece):
            return found, events[-1]
        found.append("".join(event.text for event in events if isinstance(event, Piece)))


async def test_pieces_come_as_phrases_whatever_they_came_with() -> None:
    answer = phrased(
        [Piece("Hi", None)], [Piece(". How", None), Piece(" are you? Fi", None)], [Piece("ne", None), finished()]
    )
    assert await texts(answer) == (["Hi.", " How are you?", " Fine"], finished())


async def test_what_the_engine_still_held_is_cut_too() -> None:
    assert await texts(phrased([Piece("Hi", None)], [finished(". Bye")])) == (["Hi.", " Bye"], finished())


async def test_nothing_is_lost_when_an_answer_fails() -> None:
    assert await texts(phrased([Piece("Hi the", None), FAILED])) == (["Hi the"], FAILED)


async def test_an_answer_without_text_has_an_end_only() -> None:
    assert await texts(phrased([finished("")])) == ([], finished())
    assert await texts(phrased([FAILED])) == ([], FAILED)


async def test_words_go_when_they_have_waited_long_enough() -> None:
    answer = phrased([Piece("Once upon a", None)], max_wait_ms=1.0)
    assert await answer.next_events() == [Piece("Once upon", None)]
