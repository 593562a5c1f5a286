"""The engine: the one thread that owns onnxruntime and the scheduler. Everyone else talks to it through two queues."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

from bise_daemon.engine.counters import Counters
from bise_daemon.engine.events import Event, Failed, Finish, Finished, Times
from bise_daemon.engine.generation import Generation
from bise_daemon.engine.runner import Cache, Runner
from bise_daemon.engine.session import Logits
from bise_daemon.errors import Reason, RequestError
from bise_daemon.scheduler.request import Ending, Request
from bise_daemon.scheduler.scheduler import Scheduler
from bise_daemon.scheduler.step import Decode, Outcome, Prefill, StepPlan

logger = logging.getLogger(__name__)


def clock_ms() -> float:
    """The engine's clock: milliseconds that never go back."""
    return time.monotonic() * 1e3


_FINISH = {Ending.STOPPED: Finish.EOS, Ending.LENGTH: Finish.LENGTH, Ending.DEADLINE: Finish.DEADLINE}

Deliver = Callable[[Sequence[tuple[str, Event]]], None]


@dataclass(frozen=True, slots=True)
class _Submit:
    request: Request
    generation: Generation


@dataclass(frozen=True, slots=True)
class _Abort:
    request_id: str


@dataclass(frozen=True, slots=True)
class _Stop:
    pass


@dataclass(slots=True)
class _Active:
    generation: Generation
    times: Times = field(default_factory=Times)
    completion_tokens: int = 0


class Engine:
    """Owns the thread. `submit` and `abort` may be called from any other one; events come through `deliver`.

    Args:
        deliver: called on the engine's thread after each step, with the events of all requests in order; and on the
            thread of a `submit` that comes too late.
        clock: milliseconds; deadlines of requests are on it.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        runner: Runner,
        cache: Cache,
        deliver: Deliver,
        clock: Callable[[], float] = clock_ms,
    ) -> None:
        self._scheduler = scheduler
        self._runner = runner
        self._cache = cache
        self._deliver = deliver
        self._clock = clock
        self._commands: queue.SimpleQueue[_Submit | _Abort | _Stop] = queue.SimpleQueue()
        # Held to queue a request and to close: each request is either seen by the thread or refused, never forgotten.
        self._gate = threading.Lock()
        self._closed: RequestError | None = None
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
        self._commands.put(_Stop())
        self._thread.join()

    def submit(self, request: Request, generation: Generation) -> None:
        """Hands over a request. Its events end with one `Finished` or `Failed`, unless it is aborted.

        When the engine has ended, the `Failed` comes at once.
        """
        with self._gate:
            refusal = self._closed
            if refusal is None:
                self._commands.put(_Submit(request, generation))
        if refusal is not None:
            self._deliver([(request.id, Failed(refusal))])

    def abort(self, request_id: str) -> None:
        """Ends a request within one step; it has no more events. One that has ended already is left alone."""
        self._commands.put(_Abort(request_id))

    def _run(self) -> None:
        try:
            self._serve()
        except BaseException as error:  # noqa: BLE001 - for whoever waits for the end
            self.ended.set_exception(error)
        else:
            self.ended.set_result(None)

    def _serve(self) -> None:
        try:
            while self._take_commands():
                self._step()
        except BaseException as error:
            logger.exception("the engine's thread ended")
            self._close(RequestError(Reason.ENGINE_FAILED, f"the engine failed: {error}. See the daemon's log."))
            raise
        self._close(RequestError(Reason.DRAINING, "the daemon stopped before the answer was complete. Ask again."))

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
            match command:
                case _Submit(request=request, generation=generation):
                    assert request.id not in self._active, request.id
                    self._active[request.id] = _Active(generation)
                    self._scheduler.submit(request)
                case _Abort(request_id=request_id):
                    if self._scheduler.abort(request_id):
                        del self._active[request_id]
                        self.counters.cancelled += 1
                case _Stop():
                    return False

    def _step(self) -> None:
        now = self.counters.busy_since_ms = self._clock()
        plan = self._scheduler.plan(now)
        for slot in plan.released:
            self._cache.release(slot)
        for move in plan.moves:
            self._cache.move(move.source, move.target, move.tokens)
        self._end_all(dict.fromkeys(plan.expired, Ending.DEADLINE))
        # Who has no time left must not wait for a step that is not theirs.
        self._flush()
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
                    active.times = replace(active.times, started=self._clock())
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
            except Exception as error:  # noqa: BLE001 - one answer's fault must not end the others
                self._scheduler.abort(request_id)
                self._fail(request_id, _own(error))
                continue
            if active.times.first_token is None:
                active.times = replace(active.times, first_token=self._clock())
            if piece.choice is not None:
                active.completion_tokens += 1
                self.counters.completion_tokens += 1
                self._events.append((request_id, piece))
            outcomes[request_id] = Outcome(token, stopped)
        return outcomes

    def _end_all(self, endings: Mapping[str, Ending]) -> None:
        for request_id, ending in endings.items():
            active = self._active[request_id]
            try:
                text = active.generation.finish()
            except Exception as error:  # noqa: BLE001 - as in _sample
                self._fail(request_id, _own(error))
                continue
            del self._active[request_id]
            stopped_by_string = active.generation.stop_sequence is not None
            finish = Finish.STOP_SEQUENCE if stopped_by_string else _FINISH[ending]
            times = replace(active.times, ended=self._clock())
            self._events.append((request_id, Finished(finish, text, active.completion_tokens, times)))
            self.counters.finished += 1

    def _close(self, refusal: RequestError) -> None:
        """Fails every request that is here or queued; those that come later are refused by `submit`."""
        with self._gate:
            self._closed = refusal
        while not self._commands.empty():
            match self._commands.get():
                case _Submit(request=request, generation=generation):
                    self._active[request.id] = _Active(generation)
                case _Abort(request_id=request_id) if self._active.pop(request_id, None) is not None:
                    self.counters.cancelled += 1
        for request_id in list(self._active):
            self._fail(request_id, refusal)
        self.counters.busy_since_ms = None
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


def _own(error: Exception) -> RequestError:
    """What the caller of a request that broke is told; what is not a refusal is a bug, so the log has all of it."""
    if isinstance(error, RequestError):
        return error
    logger.error("an answer broke", exc_info=error)
    return RequestError(Reason.ENGINE_FAILED, f"the answer broke: {error!r}. See the daemon's log.")
