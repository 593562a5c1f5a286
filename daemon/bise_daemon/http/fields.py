"""What both endpoints take: OpenAI's fields for one answer, and bise's own beside them.

OpenAI's clients send some fields routinely that mean nothing here; those are listed and ignored. All others that are
not listed are refused by name, since ignoring them would change what is answered.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, TypeVar

from google.protobuf import json_format
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails, from_json

from bise_daemon.errors import Reason, RequestError
from bise_proto.v1 import inference_pb2

Model = TypeVar("Model", bound=BaseModel)

Ignored = Any
"""Sent by many clients, of no effect on an answer."""
Proto = dict[str, Any]
"""The JSON form of a proto."""

# OpenAI's own default. The daemon's is 0, but who changes two lines of an OpenAI client expects what is written there.
_TEMPERATURE = 1.0
_MAX_QUOTED_CHARS = 300
_UINT32 = (1 << 32) - 1


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class Fields(BaseModel):
    """An object of a request: no other fields, no conversions."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class StreamOptions(Fields):
    """OpenAI's `stream_options`."""

    include_usage: bool | None = None
    include_obfuscation: Ignored = None


class AnswerFields(Fields):
    """What chats and completions have in common."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    seed: int | None = Field(None, ge=-(1 << 63), le=(1 << 64) - 1)
    stop: Annotated[list[str] | None, BeforeValidator(_listed)] = None
    max_tokens: int | None = Field(None, ge=1, le=_UINT32)
    n: Literal[1] | None = None
    user: Ignored = None
    bise: Proto | None = None
    """`bise.v1.Options` as JSON: whatever else a daemon can be asked for; goes before the fields above."""

    @property
    def includes_usage(self) -> bool:
        """Whether a stream ends with a chunk of token counts."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    def options(self) -> inference_pb2.Options:
        """These fields, but for `bise`, as the daemon's options.

        Raises:
            RequestError: INVALID_OPTION.
        """
        if self.stream_options is not None and not self.stream:
            raise invalid("stream_options", "expected only beside stream: true")
        return inference_pb2.Options(
            max_tokens=self.max_tokens,
            sampling=inference_pb2.Sampling(
                temperature=_TEMPERATURE if self.temperature is None else self.temperature,
                top_p=self.top_p,
                presence_penalty=self.presence_penalty,
                frequency_penalty=self.frequency_penalty,
                seed=None if self.seed is None else self.seed % (1 << 64),  # OpenAI's may be negative
                logit_bias=dict(_biases(self.logit_bias or {})),
            ),
            stop=self.stop,
        )

    def put_own(self, options: inference_pb2.Options) -> None:
        """Puts what `bise` says over `options`.

        Raises:
            RequestError: INVALID_OPTION.
        """
        try:
            json_format.ParseDict(self.bise or {}, options)
        except (json_format.ParseError, ValueError, TypeError, AttributeError) as error:
            raise invalid("bise", f"expected bise.v1.Options as JSON: {error}") from error

    @classmethod
    def read(cls, body: bytes) -> Self:
        """The fields in a request's body; see `read_fields`."""
        return read_fields(cls, body)


def read_fields(fields: type[Model], body: bytes) -> Model:
    """The JSON object in a request's body, checked.

    Raises:
        RequestError: INVALID_OPTION, naming the field.
    """
    try:
        return fields.model_validate(from_json(body, allow_inf_nan=False))
    except ValidationError as error:
        raise _named(error.errors(include_url=False, include_input=False)[0]) from None
    except ValueError as error:
        raise invalid("body", f"expected JSON: {error}") from error


def invalid(field: str, message: str) -> RequestError:
    """A field that can't be taken as it is."""
    shown = message if len(message) <= _MAX_QUOTED_CHARS else f"{message[:_MAX_QUOTED_CHARS]}…"
    return RequestError(Reason.INVALID_OPTION, f"{field}: {shown}.", numbers={"field": field[:_MAX_QUOTED_CHARS]})


def _named(detail: ErrorDetails) -> RequestError:
    place = ""
    for part in detail["loc"]:
        place += f"[{part}]" if isinstance(part, int) else f".{part}"
    if detail["type"] == "extra_forbidden":
        return invalid(place.removeprefix("."), "expected a field this daemon knows. Leave it out")
    return invalid(place.removeprefix(".") or "body", detail["msg"])


def _biases(biases: dict[str, float]) -> list[tuple[int, float]]:
    found = []
    for key, bias in biases.items():
        if not (key.isascii() and key.isdigit() and len(key) <= 10 and int(key) <= _UINT32):
            raise invalid("logit_bias", f"expected token ids as keys, got {key[:40]!r}")
        found.append((int(key), bias))
    return found
