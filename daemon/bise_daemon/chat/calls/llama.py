"""Calls as Llama 3 writes them: {"name": …, "parameters": {…}}, as the answer itself or behind <|python_tag|>."""

from __future__ import annotations

from bise_daemon.chat.calls.parser import END, SPACE, CallParser, MalformedError, Parse

PYTHON_TAG = "<|python_tag|>"
_BETWEEN = SPACE | {";", ","}


class LlamaCalls(CallParser):
    """An answer that begins with an object may be a call, or JSON that was asked for: what names a tool is a call, and
    so is what has a name and parameters. Behind the tag and behind a call, every object is one.
    """

    def _answer(self) -> Parse[None]:
        yield from self._space()
        if self._now == "{":
            yield from self._calls(sure=False)
        else:
            self._say("".join(self._raw))
        while self._now != END:
            if self._now == PYTHON_TAG:
                self._forget()
                yield from self._shift()
                yield from self._space()
                yield from self._calls(sure=True)
            else:
                self._say(self._now)
                yield from self._shift()

    def _calls(self, *, sure: bool) -> Parse[None]:
        """Takes one object, and those that follow it."""
        while True:
            try:
                yield from self._object(sure=sure)
            except MalformedError as problem:
                if not self._meant:
                    self._say("".join(self._raw))
                    return
                while self._now not in (PYTHON_TAG, END):
                    yield from self._shift()
                self._give_up(problem)
                return
            while self._now in _BETWEEN:
                yield from self._shift()
            if self._now != "{":
                return
            self._forget()
            sure = True
