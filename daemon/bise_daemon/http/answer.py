"""What all answers have in common on their way out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from bise_daemon.http.json_text import Json, of_proto
from bise_proto.v1 import inference_pb2

# OpenAI has no word for a budget that ended; an answer that was cut is what its clients can handle.
_FINISH_REASONS = {
    inference_pb2.STOP: "stop",
    inference_pb2.STOP_SEQUENCE: "stop",
    inference_pb2.LENGTH: "length",
    inference_pb2.DEADLINE: "length",
    inference_pb2.INTERRUPTED: "stop",
    inference_pb2.TOOL_CALLS: "tool_calls",
}
# JSON has no infinity; OpenAI writes this.
_LEAST_LOGPROB = -9999.0


@dataclass(frozen=True, slots=True)
class Envelope:
    """What every chunk of an answer repeats."""

    id: str
    object_name: str
    model: str
    created_s: int = field(default_factory=lambda: int(time.time()))

    def around(self, choices: Sequence[Json], **more: Any) -> Json:
        """A chunk, or a whole answer."""
        return {
            "id": self.id,
            "object": self.object_name,
            "created": self.created_s,
            "model": self.model,
            "choices": choices,
            **more,
        }


class AnswerForm(Protocol):
    """How an endpoint spells an answer; all choices are the only one there is.

    Attributes:
        id_prefix, whole_object, chunk_object: OpenAI's names.
    """

    id_prefix: str
    whole_object: str
    chunk_object: str

    def opening(self) -> Json | None:
        """The choice of a stream's first chunk, if there is one before any text."""

    def piece(self, delta: inference_pb2.Delta) -> Json:
        """The choice of a chunk in the middle."""

    def ending(self, finish_reason: str) -> Json:
        """The choice of the chunk that says why it ended."""

    def whole(self, deltas: Sequence[inference_pb2.Delta], finish_reason: str) -> Json:
        """The choice of an answer in one."""


def finish_reason(done: inference_pb2.Done) -> str:
    """OpenAI's word for how an answer ended; bise's own is beside it.

    One that was closed early is whole: called cut, it would be thrown away by clients that parse it.
    """
    return "stop" if done.closed_early else _FINISH_REASONS[done.finish_reason]


def usage(done: inference_pb2.Done) -> Json:
    """Token counts."""
    counts = done.usage
    return {
        "prompt_tokens": counts.prompt_tokens,
        "completion_tokens": counts.completion_tokens,
        "total_tokens": counts.prompt_tokens + counts.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": counts.cached_tokens},
    }


def promise(accepted: inference_pb2.Accepted) -> Json:
    """bise's own word at the beginning."""
    return {"accepted": of_proto(accepted)}


def outcome(done: inference_pb2.Done) -> Json:
    """bise's own word at the end: how it ended, and when."""
    return {"done": of_proto(done)}


def logprob(entry: inference_pb2.TokenLogprob) -> float:
    """A logarithm that JSON can hold."""
    return max(entry.logprob, _LEAST_LOGPROB)


def token_text(entry: inference_pb2.TokenLogprob) -> str:
    """A token as text, as far as it is whole characters."""
    return entry.token.decode("utf-8", errors="replace")
