"""A FakeDaemon's side of a spoken conversation."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from bise.errors import BiseError, ConversationLost, DaemonError
from bise.testing.outcome import refused
from bise.testing.script import Gate, OpenGate
from bise_proto.v1 import inference_pb2 as pb


@dataclass
class Turn:
    """One turn, from when it is heard.

    Attributes:
        heard: the words before its end.
        gate: holds its answer's tokens back, once there is one.
    """

    end: pb.EndOfTurn
    heard: tuple[str, ...]
    gate: Gate = field(default_factory=OpenGate)
    interrupted: threading.Event = field(default_factory=threading.Event)

    def interrupt(self) -> None:
        """The user spoke in between, or left."""
        self.interrupted.set()
        self.gate.wake()


class Answers(Protocol):
    """Where answers come from."""

    def __call__(self, turn: Turn, request: pb.ChatRequest) -> Iterator[pb.GenerateResponse]:
        """The answer to a turn, with which the request's messages end."""
        ...


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
        yield from _Stream(self._answers, said, opening, requests).responses()


class _Stream:
    def __init__(
        self, answers: Answers, said: list[pb.Message], opening: pb.Open, requests: Iterable[pb.ConverseRequest]
    ) -> None:
        self._answers = answers
        self._said = said
        self._asked = pb.ChatRequest(options=opening.options, tools=opening.tools, tool_choice=opening.tool_choice)
        self._requests = requests
        self._turns: queue.SimpleQueue[Turn | pb.Interrupt | None] = queue.SimpleQueue()
        self._last = Turn(pb.EndOfTurn(), ())

    def responses(self) -> Iterator[pb.ConverseResponse]:
        threading.Thread(target=self._listen, daemon=True).start()
        while (turn := self._turns.get()) is not None:
            if isinstance(turn, Turn):
                yield from self._answer(turn)
            elif turn.HasField("spoken") and self._said and self._said[-1].role == "assistant":
                self._said[-1].content = turn.spoken

    def _listen(self) -> None:
        heard: list[str] = []
        try:
            for request in self._requests:
                match request.WhichOneof("event"):
                    case "heard":
                        heard.append(request.heard.text)
                    case "end_of_turn":
                        self._last.interrupt()
                        self._last = Turn(request.end_of_turn, tuple(heard))
                        self._turns.put(self._last)
                        heard.clear()
                    case "interrupt":
                        self._last.interrupt()
                        self._turns.put(request.interrupt)
        except Exception:  # noqa: BLE001 - gRPC's own, when the client is gone
            self._last.interrupt()
        self._turns.put(None)

    def _answer(self, turn: Turn) -> Iterator[pb.ConverseResponse]:
        messages = [*self._said, *turn.end.messages]
        if turn.end.text or not turn.end.messages:
            messages.append(pb.Message(role="user", content=turn.end.text))
        request = pb.ChatRequest(messages=messages)
        request.MergeFrom(self._asked)
        answer, calls = pb.Message(role="assistant"), dict[int, pb.ToolCall]()
        done = pb.Done(finish_reason=pb.INTERRUPTED)
        try:
            for event in self._answers(turn, request):
                if event.HasField("accepted"):
                    yield pb.ConverseResponse(accepted=event.accepted)
                elif event.HasField("delta"):
                    answer.content += event.delta.text
                    for piece in event.delta.tool_calls:
                        call = calls.setdefault(piece.index, pb.ToolCall(id=piece.id, name=piece.name))
                        call.arguments += piece.arguments
                    yield pb.ConverseResponse(delta=event.delta)
                else:
                    done = event.done
        except BiseError as error:
            yield pb.ConverseResponse(refused=refused(error))
            return
        answer.tool_calls.extend(calls.values())
        self._said[:] = [*messages, answer]
        yield pb.ConverseResponse(done=done)
