"""JSON objects that others send as text: schemas and arguments, bounded before anything walks through them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from bise_daemon.chat.message import MAX_QUOTED_CHARS, invalid_message

JsonObject = Mapping[str, Any]

MAX_OBJECT_BYTES = 64 << 10
MAX_OBJECT_DEPTH = 32
MAX_OBJECT_VALUES = 4096


def parse_object(text: str, field: str) -> JsonObject:
    """A JSON object of at most 64 KiB, 32 levels and 4,096 values, whose strings can be encoded; no NaN, no infinity.

    Args:
        field: its name, for the refusal.

    Raises:
        RequestError: INVALID_MESSAGE for `field`.
    """
    size_bytes = len(text.encode("utf-8"))
    if size_bytes > MAX_OBJECT_BYTES:
        raise invalid_message(
            field, f"expected at most {MAX_OBJECT_BYTES} bytes of JSON, got {size_bytes}. Shorten it."
        )
    try:
        value = strict_json(text)
    except RecursionError:
        raise invalid_message(field, _too_much("levels", MAX_OBJECT_DEPTH)) from None
    except ValueError as error:
        raise invalid_message(field, f"expected a JSON object, got: {error!s:.{MAX_QUOTED_CHARS}}.") from None
    if not isinstance(value, dict):
        raise invalid_message(field, f"expected a JSON object, got {text[:40]!r}.")
    _check_bounds(value, field)
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise invalid_message(
            field, "expected text in Unicode, got half of a surrogate pair. Remove the escape."
        ) from None
    return value


def strict_json(text: str) -> Any:
    """The value of a JSON text, by the letter of the standard.

    Raises:
        ValueError, RecursionError: it is none, or nests too deeply.
    """
    return json.loads(text, parse_constant=_refuse_constant)


def strings_of(value: object) -> Iterator[str]:
    """All texts in a JSON value, keys included."""
    pending = [value]
    while pending:
        match pending.pop():
            case str() as text:
                yield text
            case Mapping() as mapping:
                yield from mapping
                pending += mapping.values()
            case list() as items:
                pending += items


def _check_bounds(value: JsonObject, field: str) -> None:
    count = 0
    level: list[Any] = [value]
    for _ in range(MAX_OBJECT_DEPTH):
        below: list[Any] = []
        for each in level:
            below += each.values() if isinstance(each, Mapping) else each if isinstance(each, list) else ()
        count += len(below)
        if count > MAX_OBJECT_VALUES:
            raise invalid_message(field, _too_much("values", MAX_OBJECT_VALUES))
        level = below
    if level:
        raise invalid_message(field, _too_much("levels", MAX_OBJECT_DEPTH))


def _too_much(what: str, most: int) -> str:
    return f"expected a JSON object of at most {most} {what}, got more. Make it smaller or flatter."


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name}, which is no JSON")
