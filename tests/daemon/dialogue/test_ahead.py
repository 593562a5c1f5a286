"""Which of the words that are heard are computed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from bise_daemon.dialogue import ahead as ahead_module
from bise_daemon.dialogue.ahead import Ahead
from bise_daemon.engine.dispatcher import Answer
from bise_daemon.engine.events import Finish, Finished, Times
from bise_daemon.errors import Reason, RequestError
from bise_proto.v1.inference_pb2 import EndOfTurn

FINISHED = Finished(Finish.LENGTH, "", 0, Times())


class Engine:
    """Takes prompts, and computes them when the test says so."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.left: list[str] = []
        self.refusing = False
        self.encoding = asyncio.Event()
        self.encoding.set()
        self.answers: dict[str, Answer] = {}
        self.ahead = Ahead(self.submit)

    async def submit(self, turn: EndOfTurn) -> Answer:
        self.begun.append(turn.text)
        await self.encoding.wait()
        if self.refusing:
            raise RequestError(Reason.BUDGET, "busy.")
        self.answers[turn.text] = Answer(turn.text, lambda text, ended: None if ended else self.left.append(text))
        return self.answers[turn.text]

    def hear(self, *texts: str) -> None:
        for text in texts:
            self.ahead.hear(EndOfTurn(text=text))

    def compute(self, text: str) -> None:
        self.answers[text].put(FINISHED)


async def settled() -> None:
    """Lets everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
async def engine(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Engine]:
    monkeypatch.setattr(ahead_module, "_PACE_S", 0.0)
    engine = Engine()
    yield engine
    await engine.ahead.stop()


async def test_words_are_computed_as_they_come(engine: Engine) -> None:
    for text in ("what", "what is"):
        engine.hear(text)
        await settled()
        engine.compute(text)
        await settled()
    assert engine.begun == ["what", "what is"]
    assert engine.left == []


async def test_newer_words_take_the_place_of_those_under_way(engine: Engine) -> None:
    engine.hear("watt")
    await settled()
    engine.hear("what")
    await settled()
    assert (engine.begun, engine.left) == (["watt", "what"], ["watt"])


async def test_of_many_only_the_newest_counts(engine: Engine) -> None:
    engine.hear(*map(str, range(10_000)))
    await settled()
    assert engine.begun == ["9999"]
    engine.encoding.clear()
    engine.hear("a")
    await settled()
    engine.hear(*map(str, range(10_000)))
    await settled()
    assert engine.begun == ["9999", "a"]  # never two that are tokenized
    engine.encoding.set()
    await settled()
    assert engine.begun == ["9999", "a", "9999"]
    assert engine.left == ["9999", "a"]


async def test_they_are_not_computed_one_after_the_other_as_fast_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine()
    engine.hear("a")
    await settled()
    engine.compute("a")
    engine.hear("b")
    await settled()
    assert engine.begun == ["a"]  # 20 ms are not over
    await engine.ahead.stop()


async def test_what_is_refused_is_not_computed_and_what_comes_next_is(engine: Engine) -> None:
    engine.refusing = True
    engine.hear("what")
    await settled()
    engine.refusing = False
    engine.hear("what is")
    await settled()
    assert list(engine.answers) == ["what is"]


@pytest.mark.parametrize("encoding", [True, False])
async def test_stopping_leaves_what_is_under_way(engine: Engine, encoding: bool) -> None:
    if encoding:
        engine.encoding.clear()
    engine.hear("what")
    await settled()
    engine.hear("what is")
    await engine.ahead.stop()
    await engine.ahead.stop()
    assert engine.left == ([] if encoding else ["what"])
    engine.encoding.set()
    engine.hear("next")
    await settled()
    assert list(engine.answers)[-1] == "next"
