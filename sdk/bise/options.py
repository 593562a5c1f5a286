"""The keyword arguments of a generation, under the field's own names, and how they are put on the wire."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

from bise.errors import InvalidRequest
from bise.types import Chunking, OnExpiry, OnOverflow, Priority
from bise_proto.v1 import inference_pb2 as pb

DEFAULT_TIMEOUT_S = 60.0


class Options(TypedDict, total=False):
    """Keyword arguments of `generate`, `chat` and their streams. None is as good as not given.

    The daemon checks ranges; it refuses what it can't do with an `InvalidRequest` that names the field.

    `timeout`, `first_token_timeout` and `per_token_timeout` state a budget, counted from arrival in the daemon. What
    is stated is promised or refused: the daemon predicts, grants fewer tokens where that keeps the budget, and raises
    `OverBudget` at once where nothing would. Who states none is refused for time only where that would break a promise.

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
        json_schema: the answer is JSON that this schema describes, a mapping or its text. Of this and the next four,
            one may be given. The answer is whole even where max_tokens or time ran out: see `Result.closed_early`.
        json_object: the answer is any JSON object.
        regex: the whole answer matches.
        lark: the answer is a text of this grammar, in Lark's notation as llguidance reads it.
        choices: the answer is one of these texts.
        timeout: seconds the whole call may take, stated as a budget; by default the client's. Where that has none
            either, nothing is stated: the answer is only cut off after 60 seconds.
        first_token_timeout: seconds until the first token.
        per_token_timeout: seconds between one token and the next.
        min_granted_tokens: rather be refused than granted fewer tokens than this; by default 1, and `max_tokens` with
            `on_expiry="fail"`.
        priority: "critical" goes before "interactive", the default; "background" runs when nobody waits.
        on_expiry: "partial" returns the best answer so far when time is up, "fail" raises DeadlineExceeded.
        on_overflow: of a conversation that does not fit the context limit: "error" raises ContextOverflow,
            "truncate_oldest" leaves out the oldest turns, and says in `Accepted` what it left out.
        chunking: how the stream's Deltas are cut, for a voice: after each "token" (the default), or where a "clause"
            or a "sentence" ends.
        max_wait: seconds after which whole words are sent that no clause or sentence ended; by default they wait.
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
    json_schema: Mapping[str, Any] | str | None
    json_object: bool | None
    regex: str | None
    lark: str | None
    choices: Sequence[str] | None
    timeout: float | None
    first_token_timeout: float | None
    per_token_timeout: float | None
    min_granted_tokens: int | None
    priority: Priority | None
    on_expiry: OnExpiry | None
    on_overflow: OnOverflow | None
    chunking: Chunking | None
    max_wait: float | None


# Options that are one of several words, and what these are on the wire.
CHOICES: dict[str, dict[str, int]] = {
    "priority": {"interactive": pb.INTERACTIVE, "critical": pb.CRITICAL, "background": pb.BACKGROUND},
    "on_expiry": {"partial": pb.RETURN_PARTIAL, "fail": pb.FAIL},
    "on_overflow": {"error": pb.ERROR, "truncate_oldest": pb.TRUNCATE_OLDEST},
}

UNITS: dict[str, pb.Chunking.Unit] = {
    "token": pb.Chunking.TOKEN,
    "clause": pb.Chunking.CLAUSE,
    "sentence": pb.Chunking.SENTENCE,
}

_MAX_SECONDS = (2**32 - 1) / 1000  # the milliseconds of a Budget are uint32
_SECONDS = f"seconds, more than 0 and at most {_MAX_SECONDS:.0f}"


def timeout_s(timeout: float | None) -> float:
    """The seconds a call may take; where nobody says, 60.

    Raises:
        InvalidRequest: not a positive, finite number of at most 2³² milliseconds.
    """
    if timeout is None:
        return DEFAULT_TIMEOUT_S
    try:
        return _seconds(timeout)
    except ValueError:
        raise _invalid("timeout", _SECONDS, timeout) from None


def encode(options: Options) -> pb.Options:
    """The options on the wire. Only what is given is stated: without a `timeout` there is no total budget.

    Raises:
        TypeError: a keyword that is none.
        InvalidRequest: a value that can't be encoded; the message names the field.
    """
    encoded = pb.Options()
    formats = [name for name in _FORMATS if options.get(name)]
    if len(formats) > 1:
        raise _invalid(formats[1], f"none beside {formats[0]}", options.get(formats[1]))
    for name, value in options.items():
        if name not in _ENCODERS:
            raise TypeError(f"got an unexpected keyword argument {name!r}; expected one of {', '.join(_ENCODERS)}")
        if value is None:
            continue
        expected, put = _ENCODERS[name]
        try:
            put(encoded, value)
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError):
            raise _invalid(name, expected, value) from None
    return encoded


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _MAX_SECONDS:
        raise ValueError
    return float(value)


def _ms(value: object) -> int:
    # Rounded first: 0.029 s are 29 ms, not 30, though 0.029 * 1000 is a bit more than 29.
    return max(1, math.ceil(round(_seconds(value) * 1000, 6)))


def _budget(name: str) -> Callable[[pb.Options, Any], None]:
    return lambda options, value: setattr(options.budget, name, _ms(value))


def _choice(name: str, words: Mapping[str, int]) -> tuple[str, Callable[[pb.Options, Any], None]]:
    return _one_of(words), lambda options, word: setattr(options, name, words[word])


def _one_of(words: Mapping[str, int]) -> str:
    return " or ".join(f'"{word}"' for word in words)


def _chunking(options: pb.Options, value: str) -> None:
    options.chunking.unit = UNITS[value]


def _max_wait(options: pb.Options, value: object) -> None:
    options.chunking.max_wait_ms = _ms(value)


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


def _json_schema(options: pb.Options, value: Mapping[str, Any] | str) -> None:
    options.format.json_schema = value if isinstance(value, str) else json.dumps(dict(value), ensure_ascii=False)


def _json_object(options: pb.Options, value: bool) -> None:
    if value:
        options.format.json_object = value


def _format(name: str) -> Callable[[pb.Options, Any], None]:
    return lambda options, value: setattr(options.format, name, value)


def _choices(options: pb.Options, value: Sequence[str]) -> None:
    if isinstance(value, str):
        raise TypeError
    options.format.choices.texts.extend(value)
    options.format.choices.SetInParent()  # none are the daemon's to refuse


_FORMATS = ("json_schema", "json_object", "regex", "lark", "choices")
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
    "json_schema": ("a JSON Schema, as a mapping or its text", _json_schema),
    "json_object": (_YES_NO, _json_object),
    "regex": ("a text", _format("regex")),
    "lark": ("a text", _format("lark")),
    "choices": ("several texts", _choices),
    "timeout": (_SECONDS, _budget("total_ms")),
    "first_token_timeout": (_SECONDS, _budget("first_token_ms")),
    "per_token_timeout": (_SECONDS, _budget("per_token_ms")),
    "min_granted_tokens": (_WHOLE, _plain("min_granted_tokens")),
    "chunking": (_one_of(UNITS), _chunking),
    "max_wait": (_SECONDS, _max_wait),
    **{name: _choice(name, words) for name, words in CHOICES.items()},
}


def _invalid(name: str, expected: str, got: object) -> InvalidRequest:
    return InvalidRequest(
        f"{name}: expected {expected}, got {got!r:.200}", reason="INVALID_OPTION", numbers={"field": name}
    )
