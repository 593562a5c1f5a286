"""A FakeDaemon's side of a spoken conversation."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from bise.errors import BiseError, ConversationLost, DaemonError
from bise.testing.outcome import refused
from bise.testing.script import Gate, OpenGate, Request
from bise_proto.v1 import inference_pb2 as pb


@dataclass
class Play:
    """A turn under way: its request as it is recorded, and what holds its tokens back."""

    request: Request
    gate: Gate = field(default_factory=OpenGate)

    def interrupt(self) -> None:
        """The user spoke in between."""
        self.request.cancelled.set()
        self.gate.wake()


Answers = Callable[[tuple[str, ...], list[pb.Message], pb.Options], tuple[Play, Iterator[pb.GenerateResponse]]]


class FakeConversations:
    """Keeps what was said, by conversation ids that count from 1."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._said: dict[str, list[pb.Message]] = {}

    def converse(self, requests: Iterator[pb.ConverseRequest]) -> Iterator[pb.ConverseResponse]:
        """One stream: turns in order, interrupted as the client says.

        Raises:
            BiseError: what ends the stream.
        """
        first = next(requests, None)
        if first is None or not first.HasField("open"):
            raise DaemonError("expected open first")
        opening = first.open
        name = opening.conversation_id or f"conversation-{len(self._said) + 1}"
        if opening.conversation_id and name not in self._said:
            raise ConversationLost(f"conversation_id: {name} is not held", numbers={"field": "conversation_id"})
        said = self._said.setdefault(name, list(opening.messages))
        resumed = bool(opening.conversation_id)
        yield pb.ConverseResponse(
            opened=pb.Opened(conversation_id=name, resumed=resumed, messages=said if resumed else ())
        )
        yield from _Stream(self._answers, said, opening.options, requests).responses()


class _Stream:
    def __init__(
        self, answers: Answers, said: list[pb.Message], options: pb.Options, requests: Iterable[pb.ConverseRequest]
    ) -> None:
        self._answers = answers
        self._said = said
        self._options = options
        self._requests = requests
        self._turns: queue.SimpleQueue[tuple[pb.EndOfTurn, tuple[str, ...]] | pb.Interrupt | None] = queue.SimpleQueue()
        self._playing: Play | None = None

    def responses(self) -> Iterator[pb.ConverseResponse]:
        threading.Thread(target=self._listen, daemon=True).start()
        while (turn := self._turns.get()) is not None:
            if isinstance(turn, pb.Interrupt):
                if turn.HasField("spoken") and self._said and self._said[-1].role == "assistant":
                    self._said[-1].content = turn.spoken
                continue
            yield from self._answer(*turn)

    def _listen(self) -> None:
        heard: list[str] = []
        try:
            for request in self._requests:
                if request.HasField("heard"):
                    heard.append(request.heard.text)
                    continue
                if self._playing is not None:
                    self._playing.interrupt()
                if request.HasField("end_of_turn"):
                    self._turns.put((request.end_of_turn, tuple(heard)))
                    heard.clear()
                elif request.HasField("interrupt"):
                    self._turns.put(request.interrupt)
        except Exception:  # noqa: BLE001 - gRPC's own, when the client is gone
            if self._playing is not None:
                self._playing.interrupt()
        self._turns.put(None)

    def _answer(self, turn: pb.EndOfTurn, heard: tuple[str, ...]) -> Iterator[pb.ConverseResponse]:
        messages = [*self._said, *turn.messages]
        if turn.text or not turn.messages:
            messages.append(pb.Message(role="user", content=turn.text))
        text = ""
        self._playing, events = self._answers(heard, messages, self._options)
        try:
            for event in events:
                kind = event.WhichOneof("event")
                assert kind is not None
                text += event.delta.text
                yield pb.ConverseResponse(**{kind: getattr(event, kind)})
        except BiseError as error:
            yield pb.ConverseResponse(refused=refused(error))
            return
        if self._playing.request.cancelled.is_set():
            yield pb.ConverseResponse(done=pb.Done(finish_reason=pb.INTERRUPTED))
        self._said[:] = [*messages, pb.Message(role="assistant", content=text)]
