"""The engine: the one thread that owns onnxruntime and the scheduler. Everyone else talks to it through two queues."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Protocol

from bise_daemon.engine.counters import Counters
from bise_daemon.engine.events import Drafts, Event, Failed, Finish, Finished, Times
from bise_daemon.engine.generation import Generation, Piece
from bise_daemon.engine.outlook import Outlook
from bise_daemon.engine.runner import Cache, Interrupted, Logits, Runner
from bise_daemon.errors import Reason, RequestError
from bise_daemon.scheduler.forecast import Standing
from bise_daemon.scheduler.foreseen import after_step, step_ms
from bise_daemon.scheduler.limits import Limits
from bise_daemon.scheduler.request import Ending, Request
from bise_daemon.scheduler.scheduler import Scheduler
from bise_daemon.scheduler.step import Decode, Mixed, Outcome, Prefill, Row, Settle, StepPlan, Verify, Work

logger = logging.getLogger(__name__)


def clock_ms() -> float:
    """The engine's clock: milliseconds that never go back."""
    return time.monotonic() * 1e3


# What the cost model has learned wrong by half is put right by about so many steps.
_PROBE_STEPS = 8
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
class _Limit:
    limits: Limits


@dataclass(frozen=True, slots=True)
class _Probe:
    pass


@dataclass(frozen=True, slots=True)
class _Refill:
    slot: int
    tokens: Sequence[int]
    fill: Callable[[], bool]


@dataclass(frozen=True, slots=True)
class _Beat:
    answer: Callable[[], None]


@dataclass(frozen=True, slots=True)
class _Stop:
    pass


@dataclass(slots=True)
class _Active:
    generation: Generation
    awaited: bool = True
    """Whether somebody waits for an answer, or only for its prompt to be computed."""
    times: Times = field(default_factory=Times)
    completion_tokens: int = 0
    cached_tokens: int = 0
    forced_tokens: int = 0
    drafts: Drafts = field(default_factory=Drafts)

    def note_token(self, now: float) -> None:
        """A token came at `now`."""
        times = self.times
        gap_ms = 0.0 if times.last_token is None else now - times.last_token
        self.times = replace(
            times,
            first_token=now if times.first_token is None else times.first_token,
            last_token=now,
            longest_gap_ms=max(times.longest_gap_ms, gap_ms),
        )


class StepTimes(Protocol):
    """Learns from what steps took."""

    def observe_prefill(self, tokens: int, context_tokens: int, took_ms: float) -> None:
        """A chunk behind some cache entries."""
        ...

    def observe_decode(self, rows: int, context_tokens: int, took_ms: float) -> None:
        """A token for each of some rows, with as many cache entries in all."""
        ...

    def observe_mixed(
        self, tokens: int, context_tokens: int, rows: int, rows_context_tokens: int, took_ms: float
    ) -> None:
        """A chunk and a token for each of some rows."""
        ...

    def observe_verify(self, tokens: int, context_tokens: int, took_ms: float) -> None:
        """A token of an answer and guesses behind it."""
        ...


class Engine:
    """Owns the thread. `submit` and `abort` may be called from any other one; events come through `deliver`.

    Args:
        times: hears what each step took.
        deliver: called on the engine's thread after each step, with the events of all requests in order; and on the
            thread of a `submit` that comes too late.
        clock: milliseconds; deadlines of requests are on it.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        runner: Runner,
        cache: Cache,
        times: StepTimes,
        deliver: Deliver,
        clock: Callable[[], float] = clock_ms,
    ) -> None:
        self._scheduler = scheduler
        self._runner = runner
        self._cache = cache
        self._times = times
        self._deliver = deliver
        self._clock = clock
        self._commands: queue.SimpleQueue[_Submit | _Abort | _Limit | _Probe | _Refill | _Beat | _Stop] = (
            queue.SimpleQueue()
        )
        # Held to queue a request and to close: each request is either seen by the thread or refused, never forgotten.
        self._gate = threading.Lock()
        self._closed: RequestError | None = None
        self._active: dict[str, _Active] = {}
        self._events: list[tuple[str, Event]] = []
        self._taken = 0
        self._prefilling: str | None = None
        self._settling = False
        self._free_at_ms = 0.0
        self._steps_at_beat = 0
        self._thread = threading.Thread(target=self._run, name="bise-engine", daemon=True)
        self.counters = Counters()
        self.outlook = Outlook()
        """Replaced after each step."""
        self._flush()
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
                if self._settling:
                    self._runner.interrupt()  # nobody waits for what runs now
        if refusal is not None:
            self._deliver([(request.id, Failed(refusal))])

    def abort(self, request_id: str) -> None:
        """Ends a request within one step; it has no more events. One that has ended already is left alone.

        Its own prompt's chunk is not even run to its end, unless nothing but the prompt was wanted: who gives that up
        mostly goes on from there. What was computed before stays, for the next attempt.
        """
        self._commands.put(_Abort(request_id))
        if self._prefilling == request_id:
            self._runner.interrupt()

    def limit(self, limits: Limits) -> None:
        """Changes what the scheduler may use, from the next step on."""
        self._commands.put(_Limit(limits))

    def probe(self) -> None:
        """Learns anew what a step takes, with a few of them that nobody waits for; when there is work, that tells."""
        self._commands.put(_Probe())

    def refill(self, slot: int, tokens: Sequence[int], fill: Callable[[], bool]) -> None:
        """Pins a prefix that was let go into its slot again; when there is work, or it is there, nothing happens.

        Args:
            slot: kept for it, and held by nobody while there is no work.
            fill: brings its entries there, on the engine's thread; whether it could.
        """
        self._commands.put(_Refill(slot, tokens, fill))

    def beat(self, answer: Callable[[], None]) -> None:
        """Has the engine's thread call `answer` when it takes commands, unless it got nowhere with the work there is.

        So an answer proves that a step came to its end since the beat before, or that nothing is to be done. Whoever
        asks again and again, and gets no answer, knows that this thread is stuck.
        """
        self._commands.put(_Beat(answer))

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
        room_changed = False
        while True:
            # Idle prefixes go at once when there is less room, not with the next request.
            idle = not (self._scheduler.has_work or room_changed)
            if idle:
                self.counters.busy_since_ms = None
            try:
                command = self._commands.get(block=idle)
            except queue.Empty:
                return True
            if idle:
                self._free_at_ms = self._clock()
            match command:
                case _Submit(request=request, generation=generation):
                    assert request.id not in self._active, request.id
                    self._taken += 1
                    self._active[request.id] = _Active(generation, request.max_tokens > 0)
                    self._scheduler.submit(request)
                case _Abort(request_id=request_id):
                    if self._scheduler.abort(request_id):
                        self.counters.cancelled += self._active.pop(request_id).awaited
                case _Limit(limits=limits):
                    self._scheduler.limits = limits
                    room_changed = True
                case _Probe():
                    self._probe()
                case _Refill():
                    self._refill(command)
                    room_changed = True
                case _Beat(answer=answer):
                    if not self._scheduler.has_work or self.counters.steps != self._steps_at_beat:
                        answer()
                    self._steps_at_beat = self.counters.steps
                case _Stop():
                    return False

    def _step(self) -> None:
        now = self.counters.busy_since_ms = self._clock()
        plan = self._scheduler.plan(now)
        self._carry_out(plan)
        if plan.copies or plan.work is None:
            self._free_at_ms = self._clock()  # copies have a price of their own
        if plan.work is None:
            return
        self.outlook = self._look(plan.work)
        try:
            outcomes = self._run_work(plan.work)
        except Interrupted:
            self._free_at_ms = self._clock()
            return
        finally:
            self._prefilling, self._settling = None, False
        ended = self._clock()
        # From the end of the step before: what comes between two steps takes those who wait as long as the step itself.
        self._learn(plan.work, ended - self._free_at_ms)
        self._free_at_ms = ended
        self._end_all(self._scheduler.commit(plan, outcomes, ended))
        self.counters.steps += 1
        self._flush()

    def _probe(self) -> None:
        if self._scheduler.has_requests or (place := self._scheduler.empty_row()) is None:
            return
        slot, position = place
        # An interruption can reach a step after the one it was meant for.
        with suppress(Interrupted):
            for _ in range(_PROBE_STEPS):
                began = self._clock()
                self._runner.decode(slot, [0], [position])
                self._times.observe_decode(1, position, self._clock() - began)
        self._cache.release_beyond(slot, position)

    def _refill(self, prefix: _Refill) -> None:
        scheduler, tokens = self._scheduler, list(prefix.tokens)
        held = ((list(theirs), count) for theirs, count in scheduler.prefixes())
        if scheduler.has_work or (tokens, len(tokens)) in held:
            return
        scheduler.pin(prefix.slot, ())  # what others left there is about to be written over
        if prefix.fill():
            scheduler.pin(prefix.slot, tokens)
        else:
            self._cache.release(prefix.slot)

    def _carry_out(self, plan: StepPlan) -> None:
        """All of a plan but its work."""
        for copy in plan.copies:
            self._cache.copy(copy.source, copy.target, copy.tokens)
        for release in plan.releases:
            if release.tokens:
                self._cache.release_beyond(release.slot, release.tokens)
            else:
                self._cache.release(release.slot)
        self._end_all(dict.fromkeys(plan.expired, Ending.DEADLINE))
        self.counters.expired += len(plan.expired)
        # Who has no time left must not wait for a step that is not theirs.
        self._flush()

    def _run_work(self, work: Work) -> Mapping[str, Outcome]:
        match work:
            case Prefill(request_id=request_id, slot=slot, start=start, tokens=tokens, samples=samples):
                self._begin(request_id, start)
                self._prefilling = request_id if self._active[request_id].awaited else None
                logits = self._runner.prefill(slot, start, tokens, samples)
                self.counters.prompt_tokens += len(tokens)
                return self._sample({request_id: (logits, ())}) if samples else {}
            case Mixed(chunk=chunk, rows=step):
                self._begin(chunk.request_id, chunk.start)
                self._begin_rows(step.rows)
                of_chunk, of_rows = self._runner.mixed(chunk, step)
                self.counters.prompt_tokens += len(chunk.tokens)
                ends = {chunk.request_id: (of_chunk, ())} if chunk.samples else {}
                return self._sample(ends | _by_row(step.rows, of_rows))
            case Settle(slot=slot, start=start, tokens=tokens):
                self._settling = True
                if not self._commands.empty():
                    raise Interrupted
                self._runner.prefill(slot, start, tokens, samples=False)
                return {}
            case Verify(request_id=request_id, slot=slot, start=start, tokens=tokens, guesses=guesses, samples=samples):
                logits = self._runner.verify(slot, start, [*tokens, *guesses], len(guesses) + samples)
                return self._sample({request_id: (logits, guesses)}) if samples else {}
            case Decode(first_slot=first_slot, rows=rows):
                self._begin_rows(rows)
                tokens, positions = [row.token for row in rows], [row.position for row in rows]
                return self._sample(_by_row(rows, self._runner.decode(first_slot, tokens, positions)))

    def _begin_rows(self, rows: Sequence[Row]) -> None:
        for row in rows:
            if row.request_id is not None:
                self._begin(row.request_id, row.position)
                unanswered = self._active[row.request_id].times.first_token is None
                self.counters.prompt_tokens += unanswered or not row.samples

    def _begin(self, request_id: str, start: int) -> None:
        """Notes a request's first step; `start` of its tokens were in the cache."""
        active = self._active[request_id]
        if active.times.started is None:
            active.times = replace(active.times, started=self._clock())
            active.cached_tokens = start
            self.counters.reused_tokens += start

    def _learn(self, work: Work, took_ms: float) -> None:
        match work:
            case Prefill(start=start, tokens=tokens) | Settle(start=start, tokens=tokens):
                self._times.observe_prefill(len(tokens), start, took_ms)
            case Verify(start=start, tokens=tokens, guesses=guesses):
                self._times.observe_verify(len(tokens) + len(guesses), start, took_ms)
            case Decode(rows=rows):
                self._times.observe_decode(len(rows), _context_tokens(rows), took_ms)
            case Mixed(chunk=chunk, rows=Decode(rows=rows)):
                size, context_tokens = len(chunk.tokens), _context_tokens(rows)
                self._times.observe_mixed(size, chunk.start, len(rows), context_tokens, took_ms)

    def _sample(self, steps: Mapping[str, tuple[Logits, Sequence[int]]]) -> Mapping[str, Outcome]:
        """Lets each request choose from its logits [guesses + 1, vocab], given the guesses."""
        outcomes = {}
        for request_id, (logits, guesses) in steps.items():
            active = self._active[request_id]
            try:
                growth = active.generation.accept_all(logits, guesses)
            except Exception as error:  # noqa: BLE001 - one answer's fault must not end the others
                self._scheduler.abort(request_id)
                self._fail(request_id, _own(error))
                continue
            active.note_token(self._clock())
            active.drafts += Drafts(len(guesses), growth.held)
            self.counters.drafts += Drafts(len(guesses), growth.held)
            active.forced_tokens += growth.forced
            self._tell(request_id, growth.pieces)
            outcomes[request_id] = Outcome(growth.tokens, growth.stopped, growth.ahead)
        return outcomes

    def _tell(self, request_id: str, pieces: Sequence[Piece]) -> None:
        """Queues what tokens added to an answer."""
        for piece in pieces:
            if piece.choice is not None:
                self._active[request_id].completion_tokens += 1
                self.counters.completion_tokens += 1
                self._events.append((request_id, piece))

    def _end_all(self, endings: Mapping[str, Ending]) -> None:
        for request_id, ending in endings.items():
            active = self._active[request_id]
            try:
                if ending is Ending.DEADLINE:
                    self._tell(request_id, active.generation.close())
                rest = active.generation.finish()
            except Exception as error:  # noqa: BLE001 - as in _sample
                self._fail(request_id, _own(error))
                continue
            del self._active[request_id]
            finish = _FINISH[ending]
            if active.generation.stop_sequence is not None:
                finish = Finish.STOP_SEQUENCE
            elif finish is Finish.EOS and active.generation.made_calls:
                finish = Finish.TOOL_CALLS
            ended_itself = finish in (Finish.EOS, Finish.TOOL_CALLS)
            closed_early = active.generation.closed_early or (active.generation.has_format and not ended_itself)
            self._events.append(
                (
                    request_id,
                    Finished(
                        Finish.LENGTH if closed_early and ended_itself else finish,
                        rest.text,
                        active.completion_tokens,
                        replace(active.times, ended=self._clock()),
                        active.cached_tokens,
                        active.drafts,
                        active.forced_tokens,
                        closed_early,
                        rest.calls,
                    ),
                )
            )
            self.counters.finished += active.awaited

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
        scheduler, counters = self._scheduler, self.counters
        counters.slots_used, counters.waiting = len(scheduler.running), len(scheduler.waiting)
        counters.cached_tokens, counters.idle_tokens = scheduler.cached_tokens, scheduler.idle_tokens
        counters.preempted = scheduler.preemptions
        self.outlook = self._look()
        if self._events:
            events, self._events = self._events, []
            self._deliver(events)

    def _look(self, work: Work | None = None) -> Outlook:
        """How things stand, or will when this work is done."""
        scheduler = self._scheduler
        at_ms = self._clock()
        standings = [Standing.of(request) for request in [*scheduler.waiting, *scheduler.running]]
        busy = bool(standings)
        if work is not None:
            at_ms += step_ms(work, scheduler.costs)
            standings = after_step(work, standings)
        return Outlook(self._taken, at_ms, busy, standings, scheduler.prefixes())


def _by_row(rows: Sequence[Row], logits: Logits) -> dict[str, tuple[Logits, Sequence[int]]]:
    """Of those that sample, by request."""
    return {
        row.request_id: (logits[index : index + 1], ())
        for index, row in enumerate(rows)
        if row.request_id is not None and row.samples
    }


def _context_tokens(rows: Sequence[Row]) -> int:
    return sum(row.position for row in rows)


def _own(error: Exception) -> RequestError:
    """What the caller of a request that broke is told; what is not a refusal is a bug, so the log has all of it."""
    if isinstance(error, RequestError):
        return error
    logger.error("an answer broke", exc_info=error)
    return RequestError(Reason.ENGINE_FAILED, f"the answer broke: {error!r}. See the daemon's log.")
