"""Settings from a file, from the command's flags, or from both."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from bise_daemon.config.daemon import DaemonConfig
from bise_daemon.config.document import read_document
from bise_daemon.config.problem import ConfigError, Problem

_MAX_SHOWN_CHARS = 60


def load_config(path: Path, flags: Mapping[str, Any] | None = None) -> DaemonConfig:
    """The configuration in the YAML file at `path`.

    Args:
        path: the file; a relative bundle path in it starts at its folder.
        flags: settings that go before the file's; those that are None count as not given.

    Raises:
        ConfigError: every problem of the file and the flags.
    """
    document = read_document(path)
    given = _given(flags)

    def where(key: str) -> str:
        if key in given:
            return _flag(key)
        return f"{path}:{document.lines[key]}: {key}" if key in document.lines else f"{path}: {key}"

    # A key that could not be read at all has its problem already; it must not be called missing as well.
    unread = document.lines.keys() - document.values.keys() - given.keys()
    lines = {key: line for key, line in document.lines.items() if key not in given}
    config, problems = _validated({**document.values, **given}, where, lines, unread)
    if config is None or document.problems:
        raise ConfigError(sorted([*document.problems, *problems], key=lambda problem: problem.line or sys.maxsize))
    if "bundle" not in given:
        config = config.model_copy(update={"bundle": path.parent / config.bundle})
    return config


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
    values: Mapping[str, Any], where: Callable[[str], str], lines: Mapping[str, int], unread: set[str]
) -> tuple[DaemonConfig | None, list[Problem]]:
    try:
        return DaemonConfig.model_validate(values), []
    except ValidationError as error:
        # A union reports each of its arms: the first is enough.
        details = {str(detail["loc"][0]): detail for detail in reversed(error.errors(include_url=False))}
        return None, [
            Problem(where(key), _message(key, detail), lines.get(key, 0))
            for key, detail in details.items()
            if key not in unread
        ]


def _message(key: str, detail: ErrorDetails) -> str:
    if detail["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, DaemonConfig.model_fields, n=1)
        advice = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(DaemonConfig.model_fields)}."
        return f"expected a known key, got an unknown one. {advice}"
    expected = DaemonConfig.model_fields[key].description
    if detail["type"] == "missing":
        return f"expected {expected}, got nothing. Add the key."
    if detail["type"] == "value_error":
        expected = detail["ctx"]["error"]
    shown = repr(detail["input"])
    return f"expected {expected}, got {shown if len(shown) <= _MAX_SHOWN_CHARS else shown[:_MAX_SHOWN_CHARS] + '…'}"


def _given(flags: Mapping[str, Any] | None) -> dict[str, Any]:
    return {key: value for key, value in (flags or {}).items() if value is not None}


def _flag(key: str) -> str:
    return f"--{key.replace('_', '-')}"
