"""What all ways to write calls have in common: a parser that is fed a character at a time, and objects of JSON."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from typing import TypeVar

from bise_daemon.chat.calls.call import CallDelta, Found, MalformedCall, Terms
from bise_daemon.chat.json_object import strict_json

T = TypeVar("T")
Parse = Generator[None, str, T]

END = ""
SPACE = frozenset(" \t\r\n")
_ID = re.compile("[A-Za-z0-9]{9}")
_MAX_DEPTH = 64
_ARGUMENTS = ("arguments", "parameters")


class MalformedError(Exception):
    """What follows the beginning of a call is none; the message says what was expected and got."""


class CallParser(ABC):
    """A `CallReader` written as a generator that waits for input wherever its grammar does.

    Input is one character at a time, a mark's whole text, or END. `_now` is the input not yet taken; what it adds is
    told before the next is waited for, so that nothing comes later than it must.
    """

    def __init__(self, terms: Terms, marks: Mapping[int, str]) -> None:
        self._terms = terms
        self.marks = marks
        self.ended = False
        self.whole_calls = 0
        self._ids: list[str] = []  # of the calls begun
        self._open: int | None = None  # the index of the call under way, once it has a name
        self._whole = False  # and it seems to be whole
        self._meant = True  # what is under way is meant as a call
        self._raw: list[str] = []  # what was taken of it
        self._found: list[Found] = []
        self._now = END
        self._parser = self._start()
        next(self._parser)

    def push(self, text: str) -> Sequence[Found]:
        for char in text:
            self._send(char)
        return self._take_found()

    def mark(self, mark: str) -> Sequence[Found]:
        self._send(mark)
        return self._take_found()

    def finish(self) -> Sequence[Found]:
        self._send(END)
        return self._take_found()

    @abstractmethod
    def _answer(self) -> Parse[None]:
        """Parses a whole answer, up to its END."""

    def _start(self) -> Parse[None]:
        self._now = yield
        yield from self._answer()

    def _send(self, what: str) -> None:
        if not self.ended:
            try:
                self._parser.send(what)
            except StopIteration:
                self.ended = True

    def _take_found(self) -> Sequence[Found]:
        found, self._found = self._found, []
        return found

    def _shift(self) -> Parse[None]:
        """Takes the present input, and waits for the next."""
        self._raw.append(self._now)
        self._now = yield

    def _space(self) -> Parse[None]:
        while self._now in SPACE:
            yield from self._shift()

    def _expect(self, what: str) -> Parse[None]:
        """Takes a character or mark that must come now."""
        if self._now != what:
            raise MalformedError(f"expected {what}, got {self._now[:20] or 'the end of the answer'}")
        yield from self._shift()

    def _say(self, text: str) -> None:
        """Adds text to the answer."""
        if not text:
            return
        if self._found and isinstance(last := self._found[-1], str):
            self._found[-1] = last + text
        else:
            self._found.append(text)

    def _forget(self) -> None:
        """No call is under way."""
        self._raw.clear()
        self._open, self._whole, self._meant = None, False, True

    def _begin(self, name: str, call_id: str = "") -> None:
        """Begins a call.

        Raises:
            MalformedError: there is no such tool.
        """
        self._meant = True
        if name not in self._terms.tools:
            known = ", ".join(sorted(self._terms.tools)) or "no tool: none may be called"
            raise MalformedError(f"expected one of the tools ({known}), got {name[:80]!r}")
        if call_id in self._ids or not _ID.fullmatch(call_id):
            call_id = self._terms.make_id()
        self._open = len(self._ids)
        self._ids.append(call_id)
        self._found.append(CallDelta(self._open, call_id, name))

    def _argue(self, text: str) -> None:
        """Adds to the arguments of the call under way."""
        if not text:
            return
        assert self._open is not None
        last = self._found[-1] if self._found else None
        if isinstance(last, CallDelta) and last.index == self._open:
            self._found[-1] = CallDelta(last.index, last.id, last.name, last.arguments + text)
        else:
            self._found.append(CallDelta(self._open, arguments=text))

    def _complete(self) -> None:
        """The call under way is whole."""
        self.whole_calls += 1
        self._whole = True
        self.ended = self._terms.single

    def _give_up(self, problem: MalformedError) -> None:
        """Tells that the call under way is none, even if it seemed to be whole."""
        self.whole_calls -= self._whole
        self._found.append(MalformedCall("".join(self._raw), str(problem), self._open))
        self._forget()

    def _value(self, *, streamed: bool = False) -> Parse[str]:
        """Takes one JSON value up to its end, and returns it as text; `streamed`: as arguments of the call under way.

        Only strings and brackets are told apart here: whether it is JSON at all is checked once it is whole.
        """
        taken: list[str] = []
        depth, quoted, escaped = 0, False, False
        while True:
            char = self._now
            if len(char) != 1:
                raise MalformedError(f"expected the rest of a JSON value, got {char or 'the end of the answer'}")
            if quoted:
                escaped, quoted = char == "\\" and not escaped, escaped or char != '"'
            elif char in "{[":
                depth += 1
                if depth > _MAX_DEPTH:
                    raise MalformedError(f"expected JSON of at most {_MAX_DEPTH} levels, got more")
            elif char in "}]" and depth:
                depth -= 1
            elif char == '"':
                quoted = True
            elif not depth and (char in SPACE or char in ",:}]"):
                return "".join(taken)  # behind a number or a word
            taken.append(char)
            if streamed:
                self._argue(char)
            if not quoted and not depth and char in '}]"':
                return "".join(taken)
            yield from self._shift()

    def _object(self, *, sure: bool = True) -> Parse[None]:
        """Takes a call written as an object with `name` and `arguments` (or `parameters`), in any order.

        Args:
            sure: it is meant as a call. Otherwise, that shows by a tool's name, or by a name and arguments (`_meant`).

        Raises:
            MalformedError: it is none.
        """
        self._open, self._whole, self._meant = None, False, sure
        yield from self._expect("{")
        name = call_id = arguments = ""
        while True:
            yield from self._space()
            key = yield from self._string()
            yield from self._space()
            yield from self._expect(":")
            yield from self._space()
            if key == "name" and not name:
                name = yield from self._string()
                if sure or name in self._terms.tools:
                    self._begin(name, call_id)
                    self._argue(arguments)
            elif key in _ARGUMENTS and not arguments:
                if name and self._open is None:
                    self._begin(name)  # refuses it
                arguments = yield from self._arguments()
                yield from self._shift()
            elif key == "name" or key in _ARGUMENTS:
                raise MalformedError(f"expected {key} once, got it again")
            elif not self._meant and key not in ("id", "type"):
                raise MalformedError(f"expected a call, got an object with {key[:80]!r}")
            else:
                value = yield from self._other()
                call_id = value if key == "id" and isinstance(value, str) else call_id
            yield from self._space()
            if self._now != ",":
                break
            yield from self._shift()
        if self._now == "}":
            if self._open is None or not arguments:
                raise MalformedError(f"expected a name and arguments, got no {'arguments' if name else 'name'}")
            self._complete()
        yield from self._expect("}")

    def _arguments(self) -> Parse[str]:
        """Takes an object of arguments but for its last bracket, which is `_now` then, and tells it as it comes."""
        if self._now != "{":
            raise MalformedError(
                f"expected arguments as a JSON object, got {self._now[:20] or 'the end of the answer'}"
            )
        text = yield from self._value(streamed=self._open is not None)
        _json(text)
        return text

    def _string(self) -> Parse[str]:
        if self._now != '"':
            raise MalformedError(f"expected a string, got {self._now[:20] or 'the end of the answer'}")
        value = yield from self._other()
        assert isinstance(value, str)
        return value

    def _other(self) -> Parse[object]:
        """Takes a value of no interest, its last character included."""
        text = yield from self._value()
        if text[-1:] in ('"', "}", "]"):
            yield from self._shift()
        return _json(text)


def _json(text: str) -> object:
    try:
        return strict_json(text)
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"expected JSON, got: {error!s:.200}") from None
