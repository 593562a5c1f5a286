"""A YAML file of settings: plain values by key, and the line each is on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bise_daemon.config.problem import ConfigError, Problem

MAX_FILE_BYTES = 64 << 10
_MAX_DEPTH = 8


@dataclass(frozen=True, slots=True)
class Document:
    """What a file says.

    Attributes:
        values: plain values by key.
        lines: the line of each key, from 1.
        problems: what is wrong with single entries; they are not among the values.
    """

    values: dict[str, Any]
    lines: dict[str, int]
    problems: list[Problem]


def read_document(path: Path) -> Document:
    """Reads the YAML file at `path`; no tags, no aliases, no other documents in it.

    Raises:
        ConfigError: the file is missing, too large, or no YAML mapping of settings.
    """
    text = _read(path)
    try:
        _check_shape(path, text)
        loader = yaml.SafeLoader(text)
        try:
            root = loader.get_single_node()
            if root is None:
                return Document({}, {}, [])
            if not isinstance(root, yaml.MappingNode):
                raise _error(
                    path, _line(root.start_mark), "expected settings as `key: value` lines, got something else"
                )
            return _entries(path, loader, root)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        raise _error(path, _line(error.problem_mark), f"expected YAML, got: {error.problem}. Mend the line.") from error
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise _error(path, line, f"expected YAML, got: {error.reason}. Remove the character.") from error


def _read(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise _error(path, 0, f"expected a file to read, got: {error.strerror}. Check --config.") from error
    if len(content) > MAX_FILE_BYTES:
        raise _error(path, 0, f"expected at most {MAX_FILE_BYTES} bytes, got more. Is this the right file?")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise _error(path, line, "expected UTF-8 text, got other bytes. Save the file as UTF-8.") from error


def _check_shape(path: Path, text: str) -> None:
    """Refuses aliases and deep nesting on the flat stream of events, before anything is built from them."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            message = f"expected plain values, got the alias *{event.anchor}. Write the value."
            raise _error(path, _line(event.start_mark), message)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise _error(path, _line(event.start_mark), f"expected at most {_MAX_DEPTH} levels, got more. Flatten it.")


def _entries(path: Path, loader: yaml.SafeLoader, root: yaml.MappingNode) -> Document:
    document = Document({}, {}, [])
    for key_node, value_node in root.value:
        line = _line(key_node.start_mark)
        if not isinstance(key_node, yaml.ScalarNode):
            message = "expected a name as key, got a collection. Name a setting."
            document.problems.append(Problem(f"{path}:{line}", message, line))
            continue
        key = key_node.value
        where = f"{path}:{line}: {key}"
        if key in document.lines:
            message = f"expected each key once, got it in line {document.lines[key]} too. Remove one."
            document.problems.append(Problem(where, message, line))
            continue
        document.lines[key] = line
        try:
            document.values[key] = loader.construct_object(value_node, deep=True)
        except (yaml.MarkedYAMLError, ValueError) as error:
            message = (
                f"expected a plain value, got: {getattr(error, 'problem', None) or error}. Quote it if it is text."
            )
            document.problems.append(Problem(where, message, line))
    return document


def _line(mark: Any) -> int:
    """The line of a mark, from 1; every node and event of a text has one, though its type allows none."""
    return int(mark.line) + 1 if mark is not None else 1


def _error(path: Path, line: int, message: str) -> ConfigError:
    """One problem with the file as a whole; line 0 is none."""
    return ConfigError([Problem(f"{path}:{line}" if line else str(path), message, line)])
