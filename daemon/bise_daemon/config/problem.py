"""What is wrong with a configuration, all of it at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

Location = tuple[str | int, ...]
"""A place in a document: keys and indexes from its root."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to change.

    Attributes:
        where: `file:line: key`, or the command's `--flag`.
        message: what was expected, what was got, what to do.
        line: the line in the file, from 1; 0 for what is in no line.
        location: the keys and indexes that lead there; none for the file as a whole.
    """

    where: str
    message: str
    line: int = 0
    location: Location = ()

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


class ConfigError(ValueError):
    """The configuration can't be used; its text is one line for each problem."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))
