"""What a FakeDaemon is told to say, and what it was asked."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from zlib import crc32

from bise.errors import BiseError
from bise.messages import MalformedToolCall, Message, ToolCall
from bise.tools import Tool
from bise.types import FinishReason

VOCAB_SIZE = 50_000


class Gate:
    """Lets tokens through one by one, so that a test decides how far an answer gets; no clock involved."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._permits = 0

    def open(self, tokens: int = 1) -> None:
        """Lets this many more tokens through."""
        with self._changed:
            self._permits += tokens
            self._changed.notify_all()

    def wake(self) -> None:
        """Has those who wait look again at what they wait for."""
        with self._changed:
            self._changed.notify_all()

    def take(self, gone: threading.Event, until: float | None = None) -> bool:
        """Waits for a permit and takes it; False when the client is `gone`, or `until` on the monotonic clock came."""
        timeout_s = None if until is None else max(0.0, until - time.monotonic())
        with self._changed:
            if not self._changed.wait_for(lambda: self._permits or gone.is_set(), timeout_s) or gone.is_set():
                return False
            self._permits -= 1
            return True


class OpenGate(Gate):
    """The gate of an answer that has none: always open."""

    def take(self, gone: threading.Event, until: float | None = None) -> bool:  # noqa: ARG002
        return not gone.is_set()


@dataclass(frozen=True)
class Answer:
    """One scripted answer.

    Attributes:
        text: the tokens in order; a plain text is cut into words. Each is a Delta, whatever `chunking` was asked for:
            script the sentences as tokens.
        finish_reason: how it ends when nothing else ends it: max_tokens and the budget are honoured.
        most_granted_tokens: granted at most, however much is asked for; None is as much as the context leaves.
        predicted_first_token_ms: told in `Accepted`, as are `predicted_total_ms`, `cached_tokens`, `dropped_messages`
            and `dropped_tokens`. What is dropped is taken off the prompt's tokens before they are held against the
            context limit.
        draft_tokens: told in `Usage`, as are `accepted_draft_tokens`, `forced_tokens` and `cached_tokens`.
        closed_early: told at the end.
        tool_calls: made behind the text, each streamed as its name, then its arguments in two pieces; the answer then
            ends for them where `finish_reason` says nothing else.
        malformed_tool_calls: told at the end.
        error: raised by the call after the tokens.
        gate: holds each token back until the test opens it.
    """

    text: str | Sequence[str] = "Hello there"
    finish_reason: FinishReason = FinishReason.STOP
    error: BiseError | None = None
    gate: Gate = field(default_factory=OpenGate)
    most_granted_tokens: int | None = None
    predicted_first_token_ms: float = 0.0
    predicted_total_ms: float = 0.0
    cached_tokens: int = 0
    dropped_messages: int = 0
    dropped_tokens: int = 0
    draft_tokens: int = 0
    accepted_draft_tokens: int = 0
    forced_tokens: int = 0
    closed_early: bool = False
    tool_calls: Sequence[ToolCall] = ()
    malformed_tool_calls: Sequence[MalformedToolCall] = ()

    @property
    def tokens(self) -> list[str]:
        """The texts of the tokens."""
        return tokenize(self.text) if isinstance(self.text, str) else list(self.text)


@dataclass(frozen=True)
class Request:
    """One recorded generation.

    Attributes:
        method: "Chat", "Generate" or "Converse".
        heard: of a turn of a conversation, the words that were told before its end.
        tools: as sent; `tool_choice` is "auto", "none", "required" or the name of one.
        options: as sent, by the names and values of `bise.Options`; those at their defaults are absent.
        total_ms: the budget as sent, as are `first_token_ms` and `per_token_ms`; 0 where none is stated.
        cancelled: set when the client gave the answer up.
        finished: set when the daemon is through with it, whatever the end.
    """

    method: str
    messages: tuple[Message, ...] = ()
    prompt: str = ""
    token_ids: tuple[int, ...] = ()
    tools: tuple[Tool, ...] = ()
    tool_choice: str = "auto"
    parallel_tool_calls: bool = True
    continue_final_message: bool = False
    options: Mapping[str, object] = field(default_factory=dict)
    total_ms: int = 0
    first_token_ms: int = 0
    per_token_ms: int = 0
    heard: tuple[str, ...] = ()
    cancelled: threading.Event = field(default_factory=threading.Event, repr=False, compare=False)
    finished: threading.Event = field(default_factory=threading.Event, repr=False, compare=False)


def tokenize(text: str) -> list[str]:
    """The text cut before each run of white space, so that joining gives it back."""
    return re.findall(r"\s*\S+|\s+$", text)


def token_id(token: str) -> int:
    """The same id for the same token in every run."""
    return crc32(token.encode()) % VOCAB_SIZE
