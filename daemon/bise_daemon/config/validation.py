"""Values held to a pydantic model, with every problem told by where it is, what was expected and what was got."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from bise_daemon.config.problem import Location, Problem

_MAX_SHOWN_CHARS = 60

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where among the values something is wrong.

    Attributes:
        location: keys and indexes from the root.
        expected: what the innermost known key takes.
        siblings: the keys there are beside the innermost.
    """

    location: Location
    expected: str | None
    siblings: tuple[str, ...]

    @classmethod
    def of(cls, parts: Location, root: type[BaseModel]) -> _Place:
        """The place that pydantic names, but for the arms of a union, which are nothing a file has."""
        location: list[str | int] = []
        expected: str | None = None
        siblings, annotation, keys = tuple(root.model_fields), cast(Any, root), None
        for part in parts:
            if part == "[key]":
                expected = next(each.description for each in get_args(keys) if isinstance(each, FieldInfo))
                break
            if isinstance(part, int):
                location.append(part)
            elif get_origin(annotation) is dict:
                location.append(part)
                keys, annotation = get_args(annotation)
            elif model := _model_in(annotation):
                location.append(part)
                siblings = tuple(model.model_fields)
                field = model.model_fields.get(part)
                expected, annotation = (field.description, field.annotation) if field else (None, None)
            else:
                break
        return cls(tuple(location), expected, siblings)


def validated(
    model: type[M],
    values: Mapping[str, Any],
    problem: Callable[[Location, str], Problem],
    unread: Collection[Location] = (),
) -> tuple[M | None, list[Problem]]:
    """The model of these values, or what is wrong with them.

    Args:
        problem: makes one of where it is and what its message says.
        unread: what has its problem already; what it makes wrong around it is not told once more.
    """
    try:
        return model.model_validate(values), []
    except ValidationError as error:
        places = [(_Place.of(detail["loc"], model), detail) for detail in error.errors(include_url=False)]
        # A union reports each of its arms: the first is enough. A list reports its wrong entries once more, as too few.
        firsts = {place.location: (place, detail) for place, detail in reversed(places)}
        known = [*unread, *(place.location for place, _ in places)]
        around = {location[:length] for location in known for length in range(len(location))}
        return None, [
            problem(place.location, _message(place, detail))
            for place, detail in reversed(firsts.values())
            if place.location not in around and not any(part in unread for part in _prefixes(place.location))
        ]


def advice(got: object, known: Iterable[str]) -> str:
    """What to write instead of a word that is not known."""
    words = list(known)
    near = difflib.get_close_matches(str(got), words, n=1)
    return f"Did you mean {near[0]}?" if near else f"There are: {', '.join(words)}."


def shown(value: object) -> str:
    """A value that came from outside, as far as it is worth to be seen."""
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN_CHARS else text[:_MAX_SHOWN_CHARS] + "…"


def _prefixes(location: Location) -> Iterable[Location]:
    return (location[:length] for length in range(1, len(location) + 1))


def _message(place: _Place, detail: ErrorDetails) -> str:
    if detail["type"] == "extra_forbidden":
        return f"expected a known key, got an unknown one. {advice(place.location[-1], place.siblings)}"
    expected = place.expected
    if detail["type"] == "missing":
        return f"expected {expected}, got nothing. Add the key."
    if detail["type"] == "value_error":
        expected = detail["ctx"]["error"]
    return f"expected {expected}, got {shown(detail['input'])}"


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The settings nested in a field of this type, in a tuple or optional."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for each in get_args(annotation) if (found := _model_in(each))), None)
