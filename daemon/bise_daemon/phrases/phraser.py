"""Holds an answer back until a phrase of it is whole."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from bise_daemon.engine.generation import Piece
from bise_daemon.phrases.boundary import Boundary, whole_words


class Phraser:
    """Takes pieces of an answer and gives phrases of it; together they have the same text, tokens and order.

    A token comes with the phrase its text begins in. Nobody speaks calls of tools: they, and what is before them, go at
    once.

    Args:
        boundary: of phrases.
        max_wait_ms: whole words that have waited so long are a phrase, too; None is however long it takes.
    """

    def __init__(self, boundary: Boundary, max_wait_ms: float | None) -> None:
        self._boundary = boundary
        self._max_wait_ms = max_wait_ms
        self._held: deque[tuple[Piece, float]] = deque()
        self._text = ""
        self._begin = 0
        self._calls = False

    def push(self, piece: Piece, now: float) -> None:
        """Takes a piece that came at `now`, in milliseconds."""
        self._held.append((piece, now))
        self._text += piece.text
        self._calls = self._calls or bool(piece.calls)

    def next_phrase(self, now: float) -> list[Piece]:
        """The next phrase, as pieces; none if none is whole."""
        if self._calls:
            return self.rest()
        end, self._begin = self._boundary.find(self._text, self._begin)
        if not end and (due_ms := self.due_ms) is not None and due_ms <= now:
            end = whole_words(self._text)
        return self._take(end) if end else []

    @property
    def due_ms(self) -> float | None:
        """When words that are held now will have waited long enough; None if there are none that could go."""
        if self._max_wait_ms is None or not whole_words(self._text):
            return None
        return next(since for piece, since in self._held if piece.text) + self._max_wait_ms

    def rest(self) -> list[Piece]:
        """All that is held."""
        rest = [piece for piece, _ in self._held]
        self._held.clear()
        self._text, self._begin, self._calls = "", 0, False
        return rest

    def _take(self, end: int) -> list[Piece]:
        taken = []
        left = end
        while left:
            piece, since = self._held.popleft()
            if len(piece.text) > left:
                self._held.appendleft((Piece(piece.text[left:], None), since))
                piece = replace(piece, text=piece.text[:left])
            taken.append(piece)
            left -= len(piece.text)
        self._text, self._begin = self._text[end:], 0
        return taken
