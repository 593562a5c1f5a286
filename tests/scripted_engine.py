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
from bise_daemon.engine.loop import Engine
from bise_daemon.engine.sampling import Sampler, SamplingParams
from bise_daemon.engine.session import Logits
from bise_daemon.scheduler.request import Request
from bise_daemon.scheduler.scheduler import Limits, Scheduler

VOCAB_SIZE = 128
NAN_PROMPT = 99
"""A prompt that begins with this token gets logits that are not numbers."""
_PATIENCE_S = 20


def next_token(tokens: Sequence[int]) -> int:
    """The scripted model: the one token that may follow `tokens`, from 3 to 98, other for every prefix."""
    return 3 + sum((place + 1) * token * 31 for place, token in enumerate(tokens)) % 96


def answer(prompt: Sequence[int], count: int) -> list[int]:
    """What the model answers to `prompt` when it is alone."""
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(next_token(tokens))
    return tokens[len(prompt) :]


def text_of(tokens: Sequence[int]) -> str:
    return "".join(f"{token} " for token in tokens)


class ScriptedRunner:
    """A model and its cache at once. It computes from what its slots really hold, so a wrong slot, position, move or
    release either trips an assertion here or changes an answer.

    Attributes:
        steps: what ran, in order: ("prefill", slots) or ("decode", slots).
        on_step: called on the engine's thread before step number n, from 0.
    """

    def __init__(self, slots: int, context_tokens: int) -> None:
        self.slots: list[dict[int, int]] = [{} for _ in range(slots)]
        self.context_tokens = context_tokens
        self.steps: list[tuple[str, range]] = []
        self.on_step: dict[int, Callable[[], None]] = {}

    def prefill(self, slot: int, start: int, tokens: Sequence[int], samples: bool) -> Logits:
        self._begin("prefill", range(slot, slot + 1))
        assert tokens
        if start == 0:
            self._assert_released(slot)
        for offset, token in enumerate(tokens):
            self._write(slot, start + offset, token)
        rows = [self._read(slot, start + len(tokens) - 1)]
        return self._logits(rows if samples else [])

    def decode(self, first_slot: int, tokens: Sequence[int], positions: Sequence[int]) -> Logits:
        self._begin("decode", range(first_slot, first_slot + len(tokens)))
        assert len(tokens) == len(positions)
        for slot, (token, position) in enumerate(zip(tokens, positions, strict=True), first_slot):
            self._write(slot, position, token)
        return self._logits([self._read(slot, position) for slot, position in enumerate(positions, first_slot)])

    def move(self, source: int, target: int, tokens: int) -> None:
        assert source != target
        self._assert_released(target)
        self.slots[target] |= {position: self.slots[source][position] for position in range(tokens)}
        self.release(source)

    def release(self, slot: int) -> None:
        self.slots[slot].clear()

    def _assert_released(self, slot: int) -> None:
        """A filler row may have written the first entry of an empty slot, and nothing else is left in one."""
        assert self.slots[slot].keys() <= {0}

    def _begin(self, kind: str, slots: range) -> None:
        number = len(self.steps)
        self.steps.append((kind, slots))
        self.on_step.pop(number, lambda: None)()

    def _write(self, slot: int, position: int, token: int) -> None:
        assert 0 <= position < self.context_tokens
        self.slots[slot][position] = token

    def _read(self, slot: int, last: int) -> list[int]:
        return [self.slots[slot][position] for position in range(last + 1)]  # a gap is a KeyError

    def _logits(self, rows: Sequence[Sequence[int]]) -> Logits:
        logits = np.zeros((len(rows), VOCAB_SIZE), np.float32)
        for row, tokens in zip(logits, rows, strict=True):
            row[next_token(tokens)] = 10
            if tokens[0] == NAN_PROMPT:
                row[:] = np.nan
        return logits


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

    def complete(self, request_id: str) -> list[Event]:
        """All events of a request, once the last is here."""
        with self._lock:
            last = self._lasts[request_id]
        last.result(_PATIENCE_S)
        return self.events[request_id]


class ManualClock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Rig:
    """An engine on the scripted model. What is submitted before `start` is there at its first step."""

    def __init__(self, limits: Limits) -> None:
        self.runner = ScriptedRunner(limits.slots, limits.context_tokens)
        self.scheduler = Scheduler(limits)
        self.inbox = Inbox()
        self.clock = ManualClock()
        self.engine = Engine(self.scheduler, self.runner, self.runner, self.inbox.deliver, self.clock)
        self.started = False

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
        stops: Sequence[str] = (),
        eos: Set[int] = frozenset(),
        detokenizer: Detokenizer | None = None,
    ) -> None:
        generation = Generation(
            Sampler(SamplingParams(), prompt),
            detokenizer or ByteDetokenizer(lambda token: f"{token} ".encode()),
            StopMatcher(stops),
            eos,
        )
        self.engine.submit(Request(name, prompt, max_tokens, deadline_ms), generation)

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
