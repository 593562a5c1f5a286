"""Settings from a file, from the command's flags, or from both."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bise_daemon.config.daemon import DaemonConfig
from bise_daemon.config.document import read_document, spelled
from bise_daemon.config.problem import ConfigError, Location, Problem
from bise_daemon.config.validation import validated

# Relative ones start at the file they stand in.
_PATHS = ("bundle", "state_dir", "cache_dir")
# What flags for settings within a section are called.
_SECTION_FLAGS = {"http.listen": "http", "http.page": "page", "metrics.listen": "metrics"}


def load_config(path: Path, flags: Mapping[str, Any] | None = None, folder: Path | None = None) -> DaemonConfig:
    """The configuration in the YAML file at `path`.

    Args:
        path: the file; relative paths in it start at its folder.
        folder: where they start instead, for a file that is to be put there.
        flags: settings that go before the file's; those that are None count as not given.

    Raises:
        ConfigError: every problem of the file and the flags.
    """
    document = read_document(path)
    given = _given(flags)

    def problem(location: Location, message: str) -> Problem:
        return (_flag_problem if _is_given(location, given) else document.problem)(location, message)

    unread = {location for location in document.unread if not _is_given(location, given)}
    config, problems = validated(DaemonConfig, _over(document.values, given), problem, unread)
    if config is None or document.problems:
        raise ConfigError(sorted([*document.problems, *problems], key=lambda problem: problem.line or sys.maxsize))
    folder = folder or path.parent
    ours = {name: getattr(config, name) for name in _PATHS if name not in given}
    update: dict[str, Any] = {name: folder / value for name, value in ours.items() if value is not None}
    update["trusted_keys"] = tuple(folder / key for key in config.trusted_keys)
    if config.otlp is not None and config.otlp.headers_file is not None:
        update["otlp"] = config.otlp.model_copy(update={"headers_file": folder / config.otlp.headers_file})
    return config.model_copy(update=update)


def config_from_flags(flags: Mapping[str, Any]) -> DaemonConfig:
    """The configuration of the command's flags alone; those that are None count as not given.

    Raises:
        ConfigError: every problem of the flags.
    """
    config, problems = validated(DaemonConfig, _given(flags), _flag_problem)
    if config is None:
        raise ConfigError(problems)
    return config


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


def _is_given(location: Location, given: Mapping[str, Any]) -> bool:
    value = given.get(str(location[0]))
    return value is not None and not (isinstance(value, dict) and location[1:] and location[1] not in value)


def _flag_problem(location: Location, message: str) -> Problem:
    name = spelled(location)
    return Problem(f"--{_SECTION_FLAGS.get(name, name).replace('_', '-')}", message, location=location)
