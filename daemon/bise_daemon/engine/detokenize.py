"""From token ids to text as it grows: whole characters only, and nothing of a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from typing import Protocol

from bise_daemon.errors import Reason, RequestError

MAX_STOPS = 16
MAX_STOP_CHARS = 256

_utf8_decoder = codecs.getincrementaldecoder("utf-8")


class Detokenizer(Protocol):
    """Turns one request's token ids into text, in order; special tokens add none."""

    def push(self, token_id: int) -> str:
        """The whole characters that `token_id` completes; empty while a character is still partial."""
        ...

    def finish(self) -> str:
        """What is held at the end: U+FFFD for a character that was never completed, else empty."""
        ...


class ByteDetokenizer:
    """Text of tokens that are byte strings (byte-level BPE, tekken, SentencePiece with byte fallback).

    Bytes that can't be UTF-8 become U+FFFD, one for each longest run that could have begun a character (the
    replacement practice of the Unicode standard, as in Rust's and Python's lossy decoders).
    """

    def __init__(self, text_bytes: Callable[[int], bytes], *, strip_first_space: bool = False) -> None:
        """
        Args:
            text_bytes: what a token adds to the text; no bytes for special tokens.
            strip_first_space: the tokenizer marks word starts, so a text that begins with one has a space too many.
        """
        self._text_bytes = text_bytes
        self._decoder = _utf8_decoder(errors="replace")
        self._strip_first_space = strip_first_space

    def push(self, token_id: int) -> str:
        return self._strip(self._decoder.decode(self._text_bytes(token_id)))

    def finish(self) -> str:
        return self._strip(self._decoder.decode(b"", final=True))

    def _strip(self, text: str) -> str:
        if not (self._strip_first_space and text):
            return text
        self._strip_first_space = False
        return text.removeprefix(" ")


class StopMatcher:
    """Finds the first stop string in a text that arrives in pieces, and holds back what may turn out to be one.

    First is the one that is complete first; of two that end together, the longer. So the outcome depends on the
    text alone, not on how it was cut into tokens.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        """
        Args:
            stops: at most 16 strings of 1 to 256 characters.

        Raises:
            RequestError: INVALID_OPTION, a string is empty or too long, or there are too many.
        """
        if len(stops) > MAX_STOPS:
            raise _invalid_stop(f"stop: expected at most {MAX_STOPS} strings, got {len(stops)}. Send fewer.")
        for index, stop in enumerate(stops):
            if not 1 <= len(stop) <= MAX_STOP_CHARS:
                raise _invalid_stop(
                    f"stop[{index}]: expected 1 to {MAX_STOP_CHARS} characters, got {len(stop)}. Shorten it."
                )
        # Longest first: of two that end together, the first found is the one that began earlier.
        self._stops = sorted(set(stops), key=len, reverse=True)
        self._borders = [_borders(stop) for stop in self._stops]
        self._matched = [0] * len(self._stops)  # characters of each stop that the text now ends with
        self._held = ""

    def push(self, text: str) -> tuple[str, str | None]:
        """Takes more text.

        Returns:
            The text that is sure not to belong to a stop string, and the stop string found, if any; with one found,
            the text ends before it, and what follows it in `text` is dropped: the generation is over.
        """
        held = self._held + text
        for position, char in enumerate(text, start=len(self._held) + 1):
            for index, stop in enumerate(self._stops):
                if self._advance(index, stop, char) == len(stop):
                    self._reset()
                    return held[: position - len(stop)], stop
        keep = max(self._matched, default=0)
        self._held = held[len(held) - keep :]
        return held[: len(held) - keep], None

    def flush(self) -> str:
        """The text held back, once the generation ended without a stop string."""
        held = self._held
        self._reset()
        return held

    def _reset(self) -> None:
        self._held = ""
        self._matched = [0] * len(self._stops)

    def _advance(self, index: int, stop: str, char: str) -> int:
        # Knuth, Morris and Pratt: on a mismatch, fall back to the longest border that can still grow.
        matched, borders = self._matched[index], self._borders[index]
        while matched and stop[matched] != char:
            matched = borders[matched - 1]
        matched += stop[matched] == char
        self._matched[index] = matched
        return matched


def _borders(pattern: str) -> list[int]:
    """For each prefix of `pattern`, the length of its longest proper border (a prefix that is also its suffix)."""
    borders = [0] * len(pattern)
    length = 0
    for index in range(1, len(pattern)):
        while length and pattern[index] != pattern[length]:
            length = borders[length - 1]
        length += pattern[index] == pattern[length]
        borders[index] = length
    return borders


def _invalid_stop(message: str) -> RequestError:
    return RequestError(Reason.INVALID_OPTION, message, numbers={"field": "stop"})
