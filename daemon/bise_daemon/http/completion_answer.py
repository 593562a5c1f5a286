"""Answers of `/v1/completions`."""

from __future__ import annotations

from collections.abc import Sequence

from bise_daemon.http.answer import logprob, token_text
from bise_daemon.http.json_text import Json
from bise_proto.v1 import inference_pb2


class CompletionForm:
    """Text, whole or in pieces; one object remembers how long that of one stream is so far."""

    id_prefix = "cmpl-"
    whole_object = "text_completion"
    chunk_object = "text_completion"

    def __init__(self) -> None:
        self._offset = 0

    def opening(self) -> Json | None:
        """There is nothing to say before the text."""
        return None

    def piece(self, delta: inference_pb2.Delta) -> Json:
        """Some text."""
        return self._choice([delta], None)

    def ending(self, finish_reason: str) -> Json:
        """Nothing more."""
        return self._choice([], finish_reason)

    def whole(self, deltas: Sequence[inference_pb2.Delta], finish_reason: str) -> Json:
        """All of it."""
        return self._choice(deltas, finish_reason)

    def _choice(self, deltas: Sequence[inference_pb2.Delta], finish_reason: str | None) -> Json:
        text = "".join(delta.text for delta in deltas)
        return {"index": 0, "text": text, "logprobs": self._logprobs(deltas), "finish_reason": finish_reason}

    def _logprobs(self, deltas: Sequence[inference_pb2.Delta]) -> Json | None:
        entries = [entry for delta in deltas for entry in delta.logprobs]
        if not entries:
            return None
        tokens = [token_text(entry) for entry in entries]
        offsets = []
        for token in tokens:
            offsets.append(self._offset)
            self._offset += len(token)
        return {
            "tokens": tokens,
            "token_logprobs": [logprob(entry) for entry in entries],
            "top_logprobs": [{token_text(other): logprob(other) for other in entry.top} for entry in entries],
            "text_offset": offsets,
        }
