"""The keyword arguments of a generation, under the field's own names, and how they are put on the wire."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypedDict

from bise.errors import InvalidRequest
from bise_proto.v1 import inference_pb2 as pb


class Options(TypedDict, total=False):
    """Keyword arguments of `generate`, `chat` and their streams. None is as good as not given.

    The daemon checks ranges; it refuses what it can't do with an `InvalidRequest` that names the field.

    Attributes:
        max_tokens: tokens to make at most; by default as many as the context limit leaves.
        temperature: 0, the default, always takes the most likely token.
        top_p: keep the smallest set of tokens whose probability reaches this.
        top_k: keep this many tokens.
        min_p: keep tokens at least this share as likely as the best.
        repetition_penalty: divides the logits of tokens already seen; 1 is off.
        presence_penalty: taken once from the logit of a token already made.
        frequency_penalty: taken for each time the token was made.
        seed: the same seed gives the same tokens; by default drawn by the daemon and told in `Accepted`.
        stop: one or more texts the answer ends before.
        logprobs: report each token's log probability.
        top_logprobs: and this many alternatives; implies `logprobs`.
        logit_bias: added to logits, by token id.
        ignore_eos: go on after the model's own end.
        timeout: seconds the whole call may take; by default the client's.
        on_expiry: "partial" returns the best answer so far when time is up, "fail" raises DeadlineExceeded.
    """

    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    min_p: float | None
    repetition_penalty: float | None
    presence_penalty: float | None
    frequency_penalty: float | None
    seed: int | None
    stop: str | Sequence[str] | None
    logprobs: bool | None
    top_logprobs: int | None
    logit_bias: Mapping[int, float] | None
    ignore_eos: bool | None
    timeout: float | None
    on_expiry: Literal["partial", "fail"] | None


_MAX_TIMEOUT_S = (2**32 - 1) / 1000  # Budget.total_ms is a uint32


def timeout_s(timeout: float | None, default_s: float) -> float:
    """The seconds a call may take.

    Raises:
        InvalidRequest: not a positive, finite number of at most 2³² milliseconds.
    """
    seconds: object = default_s if timeout is None else timeout
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= _MAX_TIMEOUT_S:
        raise _invalid("timeout", f"seconds, more than 0 and at most {_MAX_TIMEOUT_S:.0f}", seconds)
    return float(seconds)


def encode(options: Options, total_s: float) -> pb.Options:
    """The options on the wire, with the whole of `total_s` as budget.

    Raises:
        TypeError: a keyword that is none.
        InvalidRequest: a value that can't be encoded; the message names the field.
    """
    encoded = pb.Options(budget=pb.Budget(total_ms=math.ceil(total_s * 1000)))
    for name, value in options.items():
        if name not in Options.__annotations__:
            raise TypeError(f"got an unexpected keyword argument {name!r}; expected one of {', '.join(_ENCODERS)}")
        if value is None or name == "timeout":
            continue
        expected, put = _ENCODERS[name]
        try:
            put(encoded, value)
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError):
            raise _invalid(name, expected, value) from None
    return encoded


def _plain(name: str) -> Callable[[pb.Options, Any], None]:
    return lambda options, value: setattr(options, name, value)


def _sampling(name: str) -> Callable[[pb.Options, Any], None]:
    return lambda options, value: setattr(options.sampling, name, value)


def _stop(options: pb.Options, value: str | Sequence[str]) -> None:
    options.stop.extend([value] if isinstance(value, str) else value)


def _top_logprobs(options: pb.Options, value: int) -> None:
    options.top_logprobs = value
    options.logprobs = options.logprobs or value > 0


def _logit_bias(options: pb.Options, value: Mapping[int, float]) -> None:
    options.sampling.logit_bias.update(value)


def _on_expiry(options: pb.Options, value: str) -> None:
    options.on_expiry = {"partial": pb.RETURN_PARTIAL, "fail": pb.FAIL}[value]


_WHOLE = "a whole number, 0 or more"
_NUMBER = "a number"
_YES_NO = "True or False"

_ENCODERS: dict[str, tuple[str, Callable[[pb.Options, Any], None]]] = {
    "max_tokens": (_WHOLE, _plain("max_tokens")),
    "temperature": (_NUMBER, _sampling("temperature")),
    "top_p": (_NUMBER, _sampling("top_p")),
    "top_k": (_WHOLE, _sampling("top_k")),
    "min_p": (_NUMBER, _sampling("min_p")),
    "repetition_penalty": (_NUMBER, _sampling("repetition_penalty")),
    "presence_penalty": (_NUMBER, _sampling("presence_penalty")),
    "frequency_penalty": (_NUMBER, _sampling("frequency_penalty")),
    "seed": ("a whole number of 0 to 2⁶⁴ - 1", _sampling("seed")),
    "stop": ("a text or several texts", _stop),
    "logprobs": (_YES_NO, _plain("logprobs")),
    "top_logprobs": (_WHOLE, _top_logprobs),
    "logit_bias": ("a mapping of token id to number", _logit_bias),
    "ignore_eos": (_YES_NO, _plain("ignore_eos")),
    "on_expiry": ('"partial" or "fail"', _on_expiry),
}


def _invalid(name: str, expected: str, got: object) -> InvalidRequest:
    return InvalidRequest(
        f"{name}: expected {expected}, got {got!r:.200}", reason="INVALID_OPTION", numbers={"field": name}
    )
