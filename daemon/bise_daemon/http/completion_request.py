"""`POST /v1/completions`, as OpenAI's clients send it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator

from bise_daemon.http.fields import AnswerFields
from bise_proto.v1 import inference_pb2

# OpenAI's own default for completions.
_MAX_TOKENS = 16


def _prompt(value: Any) -> str | list[int]:
    """Text or token ids; or a list with one of these."""
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str | list):
        value = value[0]
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(type(token) is int and 0 <= token < 1 << 32 for token in value):
        return value
    raise ValueError("expected one text or one list of token ids")


class CompletionFields(AnswerFields):
    """The whole request."""

    prompt: Annotated[str | list[int], PlainValidator(_prompt)]
    logprobs: int | None = Field(None, ge=0, le=20)
    best_of: Literal[1] | None = None
    echo: Literal[False] | None = None
    suffix: None = None

    def request(self) -> inference_pb2.GenerateRequest:
        """The daemon's own request, without `bise`.

        Raises:
            RequestError: INVALID_OPTION.
        """
        options = self.options()
        if self.max_tokens is None:
            options.max_tokens = _MAX_TOKENS
        options.logprobs, options.top_logprobs = self.logprobs is not None, self.logprobs or 0
        if isinstance(self.prompt, str):
            return inference_pb2.GenerateRequest(prompt=self.prompt, options=options)
        return inference_pb2.GenerateRequest(token_ids=inference_pb2.TokenIds(ids=self.prompt), options=options)
