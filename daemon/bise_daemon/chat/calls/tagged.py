"""Calls between tags, as Qwen 2.5 and Hermes write them: <tool_call>{"name": …, "arguments": {…}}</tool_call>."""

from __future__ import annotations

from collections.abc import Sequence

from bise_daemon.chat.calls.call import Found
from bise_daemon.chat.calls.parser import END, CallParser, MalformedError, Parse

OPENING, CLOSING = "<tool_call>", "</tool_call>"


class TaggedCalls(CallParser):
    """Any number of calls, with text before, between and behind; space beside a call is part of its layout."""

    def mark(self, mark: str) -> Sequence[Found]:
        return self.push(mark)  # a tokenizer may have the tags as special tokens, which leave no text

    def _answer(self) -> Parse[None]:
        while True:
            yield from self._text()
            if self._now == END:
                return
            yield from self._shift()
            try:
                yield from self._space()
                yield from self._object()
                yield from self._space()
                for char in CLOSING if self._now != END else "":
                    yield from self._expect(char)
            except MalformedError as problem:
                while self._now != END and "".join(self._raw[-len(CLOSING) :]) != CLOSING:
                    yield from self._shift()
                self._give_up(problem)
            yield from self._space()

    def _text(self) -> Parse[None]:
        """Says what comes up to the opening tag, of which the last character is `_now` then."""
        held = ""  # space, and what may begin the tag
        while self._now != END:
            tag = held.lstrip() + self._now
            if tag == OPENING:
                self._forget()
                self._raw += OPENING[:-1]
                return
            if not tag.strip() or OPENING.startswith(tag):
                held += self._now
            elif held:
                self._say(held)
                held = ""
                continue  # what ends a false tag may begin a true one
            else:
                self._say(self._now)
            yield from self._shift()
        self._say(held)
