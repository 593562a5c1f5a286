"""An engine with nothing real behind it: a scripted model, a believed cache, and everything it delivers."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Sequence, Set
from concurrent.futures import Future

import numpy as np

from bise_daemon.engine.detokenize import ByteDetokenizer, Detokenizer, StopMatcher
from bise_daemon.engine.events import Event, Failed, Finished
from bise_daemon.engine.generation import Generation, Piece
from bise_daemon.engine.guide import Guide
from bise_daemon.engine.loop import Deliver, Engine
from bise_daemon.engine.runner import Interrupted, Logits
from bise_daemon.engine.sampling import Sampler, SamplingParams
from bise_daemon.scheduler.limits import Limits
from bise_daemon.scheduler.request import Priority, Request
from bise_daemon.scheduler.scheduler import Scheduler
from bise_daemon.scheduler.step import Decode, Prefill
from virtual_device import LinearCosts

VOCAB_SIZE = 128
NAN_PROMPT = 99
"""A prompt that begins with this token gets logits that are not numbers."""
GARBAGE = -1
"""What a step that was given up leaves in the cache."""
_PATIENCE_S = 20


def next_token(tokens: Sequence[int]) -> int:
    """The scripted model: the one token that may follow `tokens`, from 3 to 98, other for every prefix."""
    return 3 + sum((place + 1) * token * 31 for place, token in enumerate(tokens)) % 96


def copying_token(tokens: Sequence[int]) -> int:
    """A model that says the same eight tokens again and again, with another one now and then."""
    return 3 + len(tokens) % 8 + 8 * (next_token(tokens) < 20)


def answer(prompt: Sequence[int], count: int, successor: Callable[[Sequence[int]], int] = next_token) -> list[int]:
    """What the model answers to `prompt` when it is alone."""
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(successor(tokens))
    return tokens[len(prompt) :]


def text_of(tokens: Sequence[int]) -> str:
    return "".join(f"{token} " for token in tokens)


class ScriptedRunner:
    """A model and its cache at once. It computes from what its slots really hold, so a wrong slot, position, copy or
    release either trips an assertion here or changes an answer.

    A slot holds tokens without gaps; whatever is written replaces all that followed, since what was computed behind
    other tokens is worth nothing.

    Args:
        successor: the model: the one token that may follow some others.

    Attributes:
        steps: what ran, in order: "prefill", "decode" or "verify", and its slots.
        on_step: called on the engine's thread before step number n, from 0.
        interruptions: how often somebody asked for one.
    """

    def __init__(self, slots: int, context_tokens: int, successor: Callable[[Sequence[int]], int] = next_token) -> None:
        self.slots: list[list[int]] = [[] for _ in range(slots)]
        self.context_tokens = context_tokens
        self.steps: list[tuple[str, range]] = []
        self.on_step: dict[int, Callable[[], None]] = {}
        self.interruptions = 0
        self._successor = successor
        self._given_up = False

    def prefill(self, slot: int, start: int, tokens: Sequence[int], samples: bool) -> Logits:
        self._run("prefill", slot, [(start, tokens)])
        return self._logits([self.slots[slot]] if samples else [])

    def verify(self, slot: int, start: int, tokens: Sequence[int], num_logits: int) -> Logits:
        assert len(tokens) >= 2
        self._run("verify", slot, [(start, tokens)])
        last = range(len(tokens) - num_logits, len(tokens))
        return self._logits([self.slots[slot][: start + place + 1] for place in last])

    def decode(self, first_slot: int, tokens: Sequence[int], positions: Sequence[int]) -> Logits:
        self._run(
            "decode", first_slot, [(position, [token]) for token, position in zip(tokens, positions, strict=True)]
        )
        return self._logits(self.slots[first_slot : first_slot + len(tokens)])

    def mixed(self, chunk: Prefill, step: Decode) -> tuple[Logits, Logits]:
        # Two entries in the log of steps; a graph has one.
        of_chunk = self.prefill(chunk.slot, chunk.start, chunk.tokens, chunk.samples)
        tokens, positions = [row.token for row in step.rows], [row.position for row in step.rows]
        return of_chunk, self.decode(step.first_slot, tokens, positions)

    def interrupt(self) -> None:
        self.interruptions += 1
        self._given_up = True

    def copy(self, source: int, target: int, tokens: int) -> None:
        assert source != target
        assert 0 < tokens <= len(self.slots[source])
        self.slots[target] = self.slots[source][:tokens]

    def release_beyond(self, slot: int, tokens: int) -> None:
        assert tokens <= len(self.slots[slot])
        del self.slots[slot][tokens:]

    def release(self, slot: int) -> None:
        self.slots[slot].clear()

    def _run(self, kind: str, first_slot: int, writes: Sequence[tuple[int, Sequence[int]]]) -> None:
        """One step: tokens that enter each of some slots from a position on."""
        number = len(self.steps)
        self.steps.append((kind, range(first_slot, first_slot + len(writes))))
        self._given_up = False
        self.on_step.pop(number, lambda: None)()
        for slot, (start, tokens) in enumerate(writes, first_slot):
            assert tokens
            assert start <= len(self.slots[slot]), f"slot {slot} holds {len(self.slots[slot])} tokens, not {start}"
            assert start + len(tokens) <= self.context_tokens
            self.slots[slot][start:] = [GARBAGE] * len(tokens) if self._given_up else tokens
        if self._given_up:
            raise Interrupted

    def _logits(self, rows: Sequence[Sequence[int]]) -> Logits:
        logits = np.zeros((len(rows), VOCAB_SIZE), np.float32)
        for row, tokens in zip(logits, rows, strict=True):
            assert GARBAGE not in tokens
            row[self._successor(tokens)] = 10
            if tokens[0] == NAN_PROMPT:
                row[:] = np.nan
        return logits


class StepLog:
    """What the engine said of its steps: kind, tokens or rows, cache entries, milliseconds."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, int, int, float]] = []

    def observe_prefill(self, tokens: int, context_tokens: int, took_ms: float) -> None:
        self.heard.append(("prefill", tokens, context_tokens, took_ms))

    def observe_decode(self, rows: int, context_tokens: int, took_ms: float) -> None:
        self.heard.append(("decode", rows, context_tokens, took_ms))

    def observe_mixed(
        self, tokens: int, context_tokens: int, rows: int, rows_context_tokens: int, took_ms: float
    ) -> None:
        self.heard.append(("mixed", tokens + rows, context_tokens + rows_context_tokens, took_ms))

    def observe_verify(self, tokens: int, context_tokens: int, took_ms: float) -> None:
        self.heard.append(("verify", tokens, context_tokens, took_ms))


class Inbox:
    """Everything that was delivered, by request, and a way to wait for the last of it."""

    def __init__(self) -> None:
        self.events: dict[str, list[Event]] = defaultdict(list)
        self.deliveries: list[list[tuple[str, Event]]] = []
        self._lasts: dict[str, Future[None]] = defaultdict(Future)
        self._lock = threading.Lock()

    def deliver(self, events: Sequence[tuple[str, Event]]) -> None:
        assert events
        with self._lock:
            self.deliveries.append(list(events))
            for request_id, event in events:
                assert not self._lasts[request_id].done(), f"{request_id}: {event} after its end"
                self.events[request_id].append(event)
                if isinstance(event, Finished | Failed):
                    self._lasts[request_id].set_result(None)

    def last(self, request_id: str) -> Future[None]:
        """Done when a request's last event is here."""
        with self._lock:
            return self._lasts[request_id]

    def complete(self, request_id: str) -> list[Event]:
        """All events of a request, once the last is here."""
        self.last(request_id).result(_PATIENCE_S)
        return self.events[request_id]


class ManualClock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Rig:
    """An engine on a scripted model. What is submitted before `start` is there at its first step."""

    def __init__(self, limits: Limits, successor: Callable[[Sequence[int]], int] = next_token) -> None:
        self.limits = limits
        self.runner = ScriptedRunner(limits.all_slots, limits.context_tokens, successor)
        self.times = StepLog()
        self.scheduler = Scheduler(limits, LinearCosts())
        self.inbox = Inbox()
        self.clock = ManualClock()
        self.engine = self.make_engine(self.inbox.deliver)
        self.started = False

    def make_engine(self, deliver: Deliver) -> Engine:
        return Engine(self.scheduler, self.runner, self.runner, self.times, deliver, self.clock)

    def start(self) -> None:
        self.started = True
        self.engine.start()

    def submit(
        self,
        name: str,
        prompt: Sequence[int],
        max_tokens: int = 5,
        *,
        deadline_ms: float | None = None,
        priority: Priority = Priority.INTERACTIVE,
        stops: Sequence[str] = (),
        eos: Set[int] = frozenset(),
        detokenizer: Detokenizer | None = None,
        guide: Guide | None = None,
    ) -> None:
        generation = Generation(
            Sampler(SamplingParams(), prompt),
            detokenizer or ByteDetokenizer(lambda token: f"{token} ".encode()),
            StopMatcher(stops),
            eos,
            guide,
        )
        request = Request(name, prompt, max_tokens, deadline_ms, priority=priority, arrived_ms=self.clock.now)
        self.engine.submit(request, generation)

    def tokens(self, name: str) -> list[int]:
        """The answer's tokens, once it is complete."""
        pieces = [event for event in self.inbox.complete(name) if isinstance(event, Piece)]
        return [piece.choice.token_id for piece in pieces if piece.choice is not None]

    def text(self, name: str) -> str:
        """The answer's text, once it is complete."""
        return "".join(event.text for event in self.inbox.complete(name) if isinstance(event, Piece | Finished))

    def finished(self, name: str) -> Finished:
        """How the answer ended."""
        last = self.inbox.complete(name)[-1]
        assert isinstance(last, Finished), last
        return last

    def failed(self, name: str) -> Failed:
        """How the answer failed."""
        last = self.inbox.complete(name)[-1]
        assert isinstance(last, Failed), last
        return last

    def settle(self) -> None:
        """Returns when all commands given so far have been carried out."""
        name = f"settling {len(self.inbox.events)}"
        self.submit(name, [1], 1)
        self.inbox.complete(name)
