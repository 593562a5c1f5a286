"""A YAML file: plain values by key, and the line each is on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bise_daemon.config.problem import ConfigError, Location, Problem

MAX_FILE_BYTES = 64 << 10
_MAX_DEPTH = 8
# libyaml where PyYAML was built with it, as its wheels are: a fleet's file takes a tenth of the time.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_COLLECTIONS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")

UNREAD: Any = type("Unread", (), {"__repr__": lambda _self: "what could not be read"})()
"""Stands for a value that could not be read; its problem is among the document's."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a file may take at most.

    Attributes:
        size_bytes: of the file.
        depth: of collections in each other.
        nodes: keys, values and collections, of which each takes about a kilobyte while the file is read.
    """

    size_bytes: int = MAX_FILE_BYTES
    depth: int = _MAX_DEPTH
    nodes: int = 1 << 15


CONFIG_BOUNDS = Bounds()


@dataclass(frozen=True, slots=True)
class Document:
    """What a file says.

    Attributes:
        path: the file.
        values: plain values by key; keys are the texts that stand there, whatever YAML takes them for.
        lines: the line of each key and each item of a list, from 1.
        problems: what is wrong with single entries.
        unread: where `UNREAD` stands for a value.
    """

    path: Path
    values: dict[str, Any]
    lines: dict[Location, int]
    problems: list[Problem]
    unread: set[Location]

    def line(self, location: Location) -> int:
        """The line of what is there, or of what it is missing in; 0 for what is missing in the file."""
        while location and location not in self.lines:
            location = location[:-1]
        return self.lines.get(location, 0)

    def where(self, location: Location) -> str:
        """`file:line: path`, for a problem."""
        line = self.line(location)
        return f"{self.path}:{line}: {spelled(location)}" if line else f"{self.path}: {spelled(location)}"

    def problem(self, location: Location, message: str) -> Problem:
        """What is wrong there."""
        return Problem(self.where(location), message, self.line(location), location)


def spelled(location: Location) -> str:
    """A location as a person writes it: `prefixes[1].prompt`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).removeprefix(".")


def read_document(path: Path, bounds: Bounds = CONFIG_BOUNDS) -> Document:
    """Reads the YAML file at `path`; no tags, no aliases, no other documents in it.

    Raises:
        ConfigError: the file is missing, too large, or no YAML mapping of settings.
    """
    text = _read(path, bounds.size_bytes)
    document = Document(path, {}, {}, [], set())
    try:
        _check_shape(path, text, bounds)
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
            if root is None:
                return document
            if not isinstance(root, yaml.MappingNode):
                raise _error(
                    path, _line(root.start_mark), "expected settings as `key: value` lines, got something else"
                )
            document.values.update(_Reader(document, loader).mapping(root, ()))
            return document
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        raise _error(path, _line(error.problem_mark), f"expected YAML, got: {error.problem}. Mend the line.") from error
    except yaml.reader.ReaderError as error:
        # libyaml counts bytes, PyYAML characters.
        before = text.encode("utf-8")[: error.position] if _Loader is not yaml.SafeLoader else text[: error.position]
        line = len(before.splitlines()) or 1
        raise _error(path, line, f"expected YAML, got: {error.reason}. Remove the character.") from error


def _read(path: Path, max_bytes: int) -> str:
    try:
        with path.open("rb") as stream:
            content = stream.read(max_bytes + 1)
    except OSError as error:
        raise _error(path, 0, f"expected a file to read, got: {error.strerror}. Check its path.") from error
    if len(content) > max_bytes:
        raise _error(path, 0, f"expected at most {max_bytes} bytes, got more. Is this the right file?")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise _error(path, line, "expected UTF-8 text, got other bytes. Save the file as UTF-8.") from error


def _check_shape(path: Path, text: str, bounds: Bounds) -> None:
    """Refuses aliases, deep nesting and crowds on the flat stream of events, before anything is built from them."""
    depth = nodes = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent):
            message = f"expected plain values, got the alias *{event.anchor}. Write the value."
            raise _error(path, _line(event.start_mark), message)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        nodes += isinstance(event, yaml.NodeEvent)
        if depth > bounds.depth:
            message = f"expected at most {bounds.depth} levels, got more. Flatten it."
            raise _error(path, _line(event.start_mark), message)
        if nodes > bounds.nodes:
            message = f"expected at most {bounds.nodes} keys and values, got more. Split the file."
            raise _error(path, _line(event.start_mark), message)


class _Reader:
    """Turns nodes into plain values; what is wrong with one is noted, and the others are read."""

    def __init__(self, document: Document, loader: Any) -> None:
        self._document = document
        self._loader = loader

    def mapping(self, node: yaml.MappingNode, at: Location) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = _line(key_node.start_mark)
            if not isinstance(key_node, yaml.ScalarNode):
                where = f"{self._document.path}:{line}" + (f": {spelled(at)}" if at else "")
                message = "expected a name as key, got a collection. Name a setting."
                self._document.problems.append(Problem(where, message, line))
                continue
            key = str(key_node.value)
            location = (*at, key)
            if location in self._document.lines:
                message = f"expected each key once, got it in line {self._document.lines[location]} too. Remove one."
                where = f"{self._document.path}:{line}: {spelled(location)}"
                self._document.problems.append(Problem(where, message, line))
                continue
            self._document.lines[location] = line
            values[key] = self._value(value_node, location)
        return values

    def _items(self, nodes: Iterable[yaml.Node], at: Location) -> list[Any]:
        values = []
        for index, node in enumerate(nodes):
            self._document.lines[*at, index] = _line(node.start_mark)
            values.append(self._value(node, (*at, index)))
        return values

    def _value(self, node: yaml.Node, at: Location) -> Any:
        if isinstance(node, yaml.CollectionNode) and node.tag in _COLLECTIONS:
            return self.mapping(node, at) if isinstance(node, yaml.MappingNode) else self._items(node.value, at)
        try:
            return self._loader.construct_object(node, deep=True)
        except (yaml.MarkedYAMLError, ValueError) as error:
            problem = getattr(error, "problem", None) or error
            message = f"expected a plain value, got: {problem}. Quote it if it is text."
            self._document.problems.append(self._document.problem(at, message))
            self._document.unread.add(at)
            return UNREAD


def _line(mark: Any) -> int:
    """The line of a mark, from 1; every node and event of a text has one, though its type allows none."""
    return int(mark.line) + 1 if mark is not None else 1


def _error(path: Path, line: int, message: str) -> ConfigError:
    """One problem with the file as a whole; line 0 is none."""
    return ConfigError([Problem(f"{path}:{line}" if line else str(path), message, line)])
