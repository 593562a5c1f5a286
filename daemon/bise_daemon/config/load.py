"""Settings from a file, from the command's flags, or from both."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from bise_daemon.config.daemon import DaemonConfig
from bise_daemon.config.document import read_document
from bise_daemon.config.problem import ConfigError, Problem

_MAX_SHOWN_CHARS = 60
# Relative ones start at the file they stand in.
_PATHS = ("bundle", "state_dir")
# What flags for settings within a section are called.
_SECTION_FLAGS = {"http.listen": "http", "http.page": "page", "metrics.listen": "metrics"}


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in the settings something is wrong.

    Attributes:
        key: the top-level one.
        path: from there on, as in `prefixes[1].prompt`.
        expected: what the innermost known key takes.
        siblings: the keys there are beside the innermost.
    """

    key: str
    path: str
    expected: str | None
    siblings: tuple[str, ...]

    @classmethod
    def of(cls, location: tuple[int | str, ...]) -> _Place:
        """The place that pydantic names, but for the arms of a union, which are nothing a file has."""
        path, expected, siblings = "", None, tuple(DaemonConfig.model_fields)
        model: type[BaseModel] | None = DaemonConfig
        for part in location:
            if isinstance(part, int):
                path += f"[{part}]"
            elif model is None:
                break
            else:
                path += f".{part}"
                siblings = tuple(model.model_fields)
                field = model.model_fields.get(part)
                expected = field.description if field else None
                model = _model_in(field.annotation) if field else None
        return cls(str(location[0]), path.removeprefix("."), expected, siblings)

    def is_within(self, other: _Place) -> bool:
        """Whether this place is a part of another."""
        return self.path.startswith((f"{other.path}.", f"{other.path}["))


def load_config(path: Path, flags: Mapping[str, Any] | None = None) -> DaemonConfig:
    """The configuration in the YAML file at `path`.

    Args:
        path: the file; relative paths in it start at its folder.
        flags: settings that go before the file's; those that are None count as not given.

    Raises:
        ConfigError: every problem of the file and the flags.
    """
    document = read_document(path)
    given = _given(flags)

    def where(place: _Place) -> str:
        if _is_given(place, given):
            return _flag(place)
        line = document.lines.get(place.key)
        return f"{path}: {place.path}" if line is None else f"{path}:{line}: {place.path}"

    # A key that could not be read at all has its problem already; it must not be called missing as well.
    unread = document.lines.keys() - document.values.keys() - given.keys()
    lines = {key: line for key, line in document.lines.items() if key not in given}
    config, problems = _validated(_over(document.values, given), where, lines, unread)
    if config is None or document.problems:
        raise ConfigError(sorted([*document.problems, *problems], key=lambda problem: problem.line or sys.maxsize))
    ours = {name: getattr(config, name) for name in _PATHS if name not in given}
    update: dict[str, Any] = {name: path.parent / value for name, value in ours.items() if value is not None}
    update["trusted_keys"] = tuple(path.parent / key for key in config.trusted_keys)
    if config.otlp is not None and config.otlp.headers_file is not None:
        update["otlp"] = config.otlp.model_copy(update={"headers_file": path.parent / config.otlp.headers_file})
    return config.model_copy(update=update)


def config_from_flags(flags: Mapping[str, Any]) -> DaemonConfig:
    """The configuration of the command's flags alone; those that are None count as not given.

    Raises:
        ConfigError: every problem of the flags.
    """
    config, problems = _validated(_given(flags), _flag, {}, set())
    if config is None:
        raise ConfigError(problems)
    return config


def _validated(
    values: Mapping[str, Any], where: Callable[[_Place], str], lines: Mapping[str, int], unread: set[str]
) -> tuple[DaemonConfig | None, list[Problem]]:
    try:
        return DaemonConfig.model_validate(values), []
    except ValidationError as error:
        places = [(_Place.of(detail["loc"]), detail) for detail in error.errors(include_url=False)]
        # A union reports each of its arms: the first is enough. A list reports its wrong entries once more, as too few.
        firsts = {place.path: (place, detail) for place, detail in reversed(places)}
        return None, [
            Problem(where(place), _message(place, detail), lines.get(place.key, 0))
            for place, detail in reversed(firsts.values())
            if place.key not in unread and not any(other.is_within(place) for other, _ in places)
        ]


def _message(place: _Place, detail: ErrorDetails) -> str:
    if detail["type"] == "extra_forbidden":
        # Deeper down there are so few keys that they can all be named.
        near = difflib.get_close_matches(place.key, place.siblings if place.path == place.key else (), n=1)
        advice = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(place.siblings)}."
        return f"expected a known key, got an unknown one. {advice}"
    expected = place.expected
    if detail["type"] == "missing":
        return f"expected {expected}, got nothing. Add the key."
    if detail["type"] == "value_error":
        expected = detail["ctx"]["error"]
    shown = repr(detail["input"])
    return f"expected {expected}, got {shown if len(shown) <= _MAX_SHOWN_CHARS else shown[:_MAX_SHOWN_CHARS] + '…'}"


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The settings nested in a field of this type, in a tuple or optional."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for each in get_args(annotation) if (found := _model_in(each))), None)


def _given(flags: Mapping[str, Any] | None) -> dict[str, Any]:
    """Flags without those that are None; a section with none is none."""
    found = {
        key: _given(value) if isinstance(value, Mapping) else value
        for key, value in (flags or {}).items()
        if value is not None
    }
    return {key: value for key, value in found.items() if value != {}}


def _over(values: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The file's values with the given ones over them, within sections too."""
    return {**values, **{key: _put(values.get(key), value) for key, value in given.items()}}


def _put(old: Any, new: Any) -> Any:
    return {**old, **new} if isinstance(old, dict) and isinstance(new, dict) else new


def _is_given(place: _Place, given: Mapping[str, Any]) -> bool:
    value = given.get(place.key)
    inner = place.path.removeprefix(place.key).removeprefix(".")
    return value is not None and not (isinstance(value, dict) and inner and inner not in value)


def _flag(place: _Place) -> str:
    return f"--{_SECTION_FLAGS.get(place.path, place.path).replace('_', '-')}"
