"""What is found in an answer as it comes: text, pieces of calls, and what was meant to be a call but is none."""

from __future__ import annotations

import secrets
import string
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Protocol

_ID_CHARS = string.ascii_letters + string.digits


@dataclass(frozen=True, slots=True)
class CallDelta:
    """A piece of a call; `id` and `name` come with the first piece, `arguments` is the next part of a JSON object."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class MalformedCall:
    """What the model wrote for a call, but is none.

    Attributes:
        index: of the call it began as, whose pieces are void; None where none was begun.
    """

    text: str
    problem: str
    index: int | None = None


Found = str | CallDelta | MalformedCall


def random_id() -> str:
    """A fresh id of nine letters and digits."""
    return "".join(secrets.choice(_ID_CHARS) for _ in range(9))


@dataclass(frozen=True, slots=True)
class Terms:
    """What counts as a call in one answer.

    Attributes:
        tools: the names that may be called.
        single: the answer ends with its first call.
        make_id: a fresh id of nine letters and digits (Mistral's formats take no other).
    """

    tools: Set[str]
    single: bool
    make_id: Callable[[], str] = random_id


@dataclass(frozen=True, slots=True)
class CallGrammar:
    """What calls in an answer have to be.

    Attributes:
        text: in llguidance's form of Lark, from the first character or token of a call to the end of the answer.
        begins: the tokens that can only begin a call.
        required: the answer is nothing but calls.
    """

    text: str
    begins: Set[int]
    required: bool


class CallReader(Protocol):
    """Tells text and calls apart, fed in order with the text and marks of one answer, however they are cut."""

    @property
    def marks(self) -> Mapping[int, str]:
        """Tokens without text that mean something here, and how they are spelled."""
        ...

    @property
    def ended(self) -> bool:
        """Nothing that follows belongs to the answer."""
        ...

    @property
    def whole_calls(self) -> int:
        """Calls so far that are whole."""
        ...

    def push(self, text: str) -> Sequence[Found]:
        """What more text adds."""
        ...

    def mark(self, mark: str) -> Sequence[Found]:
        """What one of `marks` adds."""
        ...

    def finish(self) -> Sequence[Found]:
        """What is still held back at the end of the answer."""
        ...


class NoCalls:
    """Reads an answer without calls: all of it is text."""

    marks: Mapping[int, str] = {}
    ended = False
    whole_calls = 0

    def push(self, text: str) -> Sequence[Found]:
        return [text] if text else []

    def mark(self, mark: str) -> Sequence[Found]:
        raise AssertionError(f"no marks, got {mark}")

    def finish(self) -> Sequence[Found]:
        return []
