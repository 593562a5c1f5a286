"""The engine: the one thread that owns onnxruntime and the scheduler. Everyone else talks to it through two queues."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Protocol

from bise_daemon.engine.events import Event, Failed, Finish, Finished, Times
from bise_daemon.engine.generation import Generation
from bise_daemon.engine.session import Logits
from bise_daemon.errors import Reason, RequestError
from bise_daemon.scheduler.request import Ending, Request
from bise_daemon.scheduler.scheduler import Scheduler
from bise_daemon.scheduler.step import Decode, Outcome, Prefill, StepPlan

logger = logging.getLogger(__name__)


def clock_ms() -> float:
    """The engine's clock: milliseconds that never go back."""
    return time.monotonic() * 1e3


class Runner(Protocol):
    """Runs the steps of a plan: a `Session` in the daemon, something scripted in tests."""

    def prefill(self, slot: int, start: int, tokens: Sequence[int], samples: bool) -> Logits:
        """Logits [1, vocab] after the last of the tokens if it `samples`, else [0, vocab]."""
        ...

    def decode(self, first_slot: int, tokens: Sequence[int], positions: Sequence[int]) -> Logits:
        """Logits [rows, vocab]."""
        ...


class Cache(Protocol):
    """Moves and releases what slots hold."""

    def move(self, source: int, target: int, tokens: int) -> None:
        """Brings entries to another slot."""
        ...

    def release(self, slot: int) -> None:
        """Gives a slot's memory back."""
        ...


_FINISH = {Ending.STOPPED: Finish.EOS, Ending.LENGTH: Finish.LENGTH, Ending.DEADLINE: Finish.DEADLINE}

Deliver = Callable[[Sequence[tuple[str, Event]]], None]


@dataclass(slots=True)
class Counters:
    """What the engine has done, and holds as of its last step. Written by its thread, read by any."""

    finished: int = 0
    cancelled: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    steps: int = 0
    slots_used: int = 0
    waiting: int = 0
    cached_tokens: int = 0
    busy_since_ms: float | None = None
    """When the present step began; None while there is nothing to do."""


@dataclass(slots=True)
class _Active:
    generation: Generation
    times: Times = field(default_factory=Times)
    completion_tokens: int = 0


class Engine:
    """Owns the thread. `submit` and `abort` may be called from any other one; events come through `deliver`.

    Args:
        deliver: called on the engine's thread after each step, with the events of all requests in order.
    """

    def __init__(self, scheduler: Scheduler, runner: Runner, cache: Cache, deliver: Deliver) -> None:
        self._scheduler = scheduler
        self._runner = runner
        self._cache = cache
        self._deliver = deliver
        self._commands: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._active: dict[str, _Active] = {}
        self._events: list[tuple[str, Event]] = []
        self._thread = threading.Thread(target=self._run, name="bise-engine", daemon=True)
        self.counters = Counters()
        self.ended: Future[None] = Future()
        """Done when the thread has ended; holds the exception that ended it, if one did."""

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread after its present step; requests still here fail."""
        self._commands.put(None)
        self._thread.join()

    def submit(self, request: Request, generation: Generation) -> None:
        """Hands over a request. Its events end with one `Finished` or `Failed`, unless it is aborted."""

        def take() -> None:
            self._active[request.id] = _Active(generation)
            self._scheduler.submit(request)

        self._commands.put(take)

    def abort(self, request_id: str) -> None:
        """Ends a request within one step; it has no more events. One that has ended already is left alone."""

        def drop() -> None:
            if self._scheduler.abort(request_id):
                del self._active[request_id]
                self.counters.cancelled += 1

        self._commands.put(drop)

    def _run(self) -> None:
        try:
            while self._take_commands():
                self._step()
        except BaseException as error:
            logger.exception("the engine's thread ended")
            self._fail_all(RequestError(Reason.ENGINE_FAILED, f"the engine failed: {error}. See the daemon's log."))
            self.ended.set_exception(error)
        else:
            self._fail_all(
                RequestError(Reason.DRAINING, "the daemon stopped before the answer was complete. Ask again.")
            )
            self.ended.set_result(None)

    def _take_commands(self) -> bool:
        """Carries out what is queued, waiting for something when there is no work; False to stop."""
        while True:
            idle = not self._scheduler.has_work
            if idle:
                self.counters.busy_since_ms = None
            try:
                command = self._commands.get(block=idle)
            except queue.Empty:
                return True
            if command is None:
                return False
            command()

    def _step(self) -> None:
        now = self.counters.busy_since_ms = clock_ms()
        plan = self._scheduler.plan(now)
        for slot in plan.released:
            self._cache.release(slot)
        for move in plan.moves:
            self._cache.move(move.source, move.target, move.tokens)
        self._end_all(dict.fromkeys(plan.expired, Ending.DEADLINE))
        if plan.work is not None:
            outcomes = self._work(plan)
            self._end_all(self._scheduler.commit(plan, outcomes))
            self.counters.steps += 1
        self._flush()

    def _work(self, plan: StepPlan) -> Mapping[str, Outcome]:
        match plan.work:
            case Prefill(request_id=request_id, slot=slot, start=start, tokens=tokens, samples=samples):
                active = self._active[request_id]
                if active.times.started is None:
                    active.times = replace(active.times, started=clock_ms())
                logits = self._runner.prefill(slot, start, tokens, samples)
                self.counters.prompt_tokens += len(tokens)
                return self._sample({request_id: logits[0]}) if samples else {}
            case Decode(first_slot=first_slot, rows=rows):
                tokens, positions = [row.token for row in rows], [row.position for row in rows]
                logits = self._runner.decode(first_slot, tokens, positions)
                return self._sample(
                    {row.request_id: logits[index] for index, row in enumerate(rows) if row.request_id is not None}
                )
            case None:
                return {}

    def _sample(self, logits: Mapping[str, Logits]) -> Mapping[str, Outcome]:
        outcomes = {}
        for request_id, row in logits.items():
            active = self._active[request_id]
            try:
                token, stopped, piece = active.generation.accept(row)
            except RequestError as error:
                self._scheduler.abort(request_id)
                self._fail(request_id, error)
                continue
            if active.times.first_token is None:
                active.times = replace(active.times, first_token=clock_ms())
            if piece.choice is not None:
                active.completion_tokens += 1
                self._events.append((request_id, piece))
            outcomes[request_id] = Outcome(token, stopped)
        self.counters.completion_tokens += len(outcomes)
        return outcomes

    def _end_all(self, endings: Mapping[str, Ending]) -> None:
        for request_id, ending in endings.items():
            active = self._active.pop(request_id)
            text = active.generation.finish()
            stopped_by_string = active.generation.stop_sequence is not None
            finish = Finish.STOP_SEQUENCE if stopped_by_string else _FINISH[ending]
            times = replace(active.times, ended=clock_ms())
            self._events.append((request_id, Finished(finish, text, active.completion_tokens, times)))
            self.counters.finished += 1

    def _fail_all(self, error: RequestError) -> None:
        for request_id in list(self._active):
            self._fail(request_id, error)
        self._flush()

    def _fail(self, request_id: str, error: RequestError) -> None:
        del self._active[request_id]
        self._events.append((request_id, Failed(error)))
        self.counters.failed += 1

    def _flush(self) -> None:
        self.counters.slots_used = self._scheduler.slots_used
        self.counters.waiting = self._scheduler.waiting
        self.counters.cached_tokens = self._scheduler.cached_tokens
        if self._events:
            events, self._events = self._events, []
            self._deliver(events)
