"""What the latency bench's tests share: time that passes at once, and a server that does as it is told."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import pytest

from bench.latency.runner import Outcome, Record
from bench.latency.server import Event, Promise
from bench.latency.shapes import Budget
from bench.latency.trace import Call

T = TypeVar("T")
Script = Sequence[Event | Exception | float]


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer instead of waiting for it."""

    def __init__(self) -> None:
        super().__init__(_Jumping(self))
        self.now_s = 0.0

    def time(self) -> float:
        return self.now_s


class _Jumping(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        self._loop.now_s += timeout or 0.0
        return super().select(0)


class ScriptedServer:
    """Answers by shape: events, errors to raise, and milliseconds to let pass."""

    name = "scripted"

    def __init__(self, scripts: Mapping[str, Script]) -> None:
        self._scripts = scripts
        self.left = 0
        """Answers that were left, by whichever way."""

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    async def send(self, call: Call) -> AsyncGenerator[Event, None]:
        try:
            for action in self._scripts[call.shape]:
                match action:
                    case Exception():
                        raise action
                    case float():
                        await asyncio.sleep(action / 1e3)
                    case event:
                        yield event
        finally:
            self.left += 1


@pytest.fixture(scope="session")
def in_virtual_time() -> Callable[[Coroutine[Any, Any, T]], T]:
    """Runs a coroutine to its end without waiting."""

    def run(coroutine: Coroutine[Any, Any, T]) -> T:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            return runner.run(coroutine)

    return run


@pytest.fixture(scope="session")
def scripted() -> type[ScriptedServer]:
    return ScriptedServer


@pytest.fixture(scope="session")
def call() -> Callable[..., Call]:
    """A call of four tokens within 100 ms, 20 ms and 200 ms, unless said."""

    def make(shape: str = "talk", at_ms: float = 0.0, answer_tokens: int = 4, **budget: float) -> Call:
        allowed = {"first_token_ms": 100.0, "per_token_ms": 20.0, "total_ms": 200.0} | budget
        return Call(shape, 0, at_ms, (1, 2, 3), answer_tokens, Budget(**allowed))

    return make


@pytest.fixture(scope="session")
def record(call: Callable[..., Call]) -> Callable[..., Record]:
    """An answer whose tokens came at these times."""

    def make(
        *token_ms: float,
        outcome: Outcome = Outcome.ANSWERED,
        late_ms: float = 0.0,
        ended_ms: float | None = None,
        promise: Promise | None = None,
        detail: str = "",
        **of_call: Any,
    ) -> Record:
        ends = ended_ms if ended_ms is not None else (token_ms[-1] if token_ms else 0.0)
        return Record(call(**of_call), outcome, late_ms, token_ms, ends, promise, detail)

    return make
