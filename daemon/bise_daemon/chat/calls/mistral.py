"""Mistral's two ways to write calls; [TOOL_CALLS] is a token of its own, so no text can spell it."""

from __future__ import annotations

from abc import abstractmethod

from bise_daemon.chat.calls.parser import END, CallParser, MalformedError, Parse

CALLS, CALL_ID, ARGS = "[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"


class _MarkedCalls(CallParser):
    """Text, then nothing but calls behind [TOOL_CALLS]; what is malformed goes on to the next one."""

    def _answer(self) -> Parse[None]:
        while self._now not in (CALLS, END):
            if len(self._now) == 1:  # a mark of calls is no text
                self._say(self._now)
            yield from self._shift()
        while self._now != END:
            self._forget()
            yield from self._shift()
            try:
                yield from self._marked()
                yield from self._space()
                if self._now not in (CALLS, END):
                    raise MalformedError(f"expected nothing behind a call, got {self._now[:20]}")
            except MalformedError as problem:
                while self._now not in (CALLS, END):
                    yield from self._shift()
                self._give_up(problem)

    @abstractmethod
    def _marked(self) -> Parse[None]:
        """Takes what stands behind [TOOL_CALLS]."""


class NamedCalls(_MarkedCalls):
    """From v11 on: [TOOL_CALLS]name[ARGS]{…} for each call; v11 may have [CALL_ID] and an id before [ARGS]."""

    def _marked(self) -> Parse[None]:
        name = yield from self._plain()
        call_id = ""
        if self._now == CALL_ID:
            yield from self._shift()
            call_id = yield from self._plain()
        if self._now == ARGS:
            self._begin(name, call_id)
        yield from self._expect(ARGS)
        yield from self._space()
        yield from self._arguments()
        self._complete()
        yield from self._shift()

    def _plain(self) -> Parse[str]:
        """Takes the text up to a mark."""
        text: list[str] = []
        while len(self._now) == 1:
            text.append(self._now)
            yield from self._shift()
        return "".join(text).strip()


class ListedCalls(_MarkedCalls):
    """Up to v7: [TOOL_CALLS][{"name": …, "arguments": {…}}, …], all calls in one array."""

    def _marked(self) -> Parse[None]:
        yield from self._space()
        yield from self._expect("[")
        yield from self._space()
        while self._now != "]":
            yield from self._object()
            self._open, self._whole = None, False  # it stays whole, whatever follows
            yield from self._space()
            if self._now == END:
                return
            if self._now != "]":
                yield from self._expect(",")
                yield from self._space()
        yield from self._shift()
