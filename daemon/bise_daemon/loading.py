"""How a load gets on: told by the thread that loads, and watched by whoever waits for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

# Whoever waits is told again when what it was told would otherwise be off by this.
_TOLD_EVERY_S = 1.0

Tell = Callable[[str, float], None]


class LoadingStoppedError(Exception):
    """Nobody waits for the model any more."""


class LoadingStalledError(RuntimeError):
    """A part of loading made no progress for longer than it ever should."""


class Loading:
    """Progress, and the time within which there must be more of it.

    Args:
        tell: hears of a new part, of progress, and how many seconds may pass until more of it.
        clock: seconds that never go back.
    """

    def __init__(
        self, tell: Tell = lambda _part, _patience_s: None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._tell = tell
        self._clock = clock
        self._gate = Lock()
        self._stopped = False
        self._ends: list[Callable[[], None]] = []
        self._patience_s = 60.0
        self._part = "starting"
        self._due_s = self._told_due_s = clock() + self._patience_s

    def begin(self, part: str, patience_s: float) -> None:
        """The next part begins.

        Args:
            part: what is being done, as in "proving hashes".
            patience_s: it, or its next bit of progress, takes less on any device that is to be served.

        Raises:
            LoadingStoppedError: nobody waits for it any more.
        """
        self._patience_s = patience_s
        self._told_due_s = 0.0
        self.advance(part)

    def advance(self, part: str | None = None) -> None:
        """There is progress.

        Args:
            part: what is being done now, if there is more to say of it.

        Raises:
            LoadingStoppedError: nobody waits for it any more.
        """
        if self._stopped:
            raise LoadingStoppedError
        self._part = part or self._part
        self._due_s = self._clock() + self._patience_s
        if self._due_s >= self._told_due_s + _TOLD_EVERY_S:
            self._told_due_s = self._due_s
            self._tell(self._part, self._patience_s)

    def stop(self) -> None:
        """Has the load end at its next bit of progress, and what it waits for at once."""
        with self._gate:
            self._stopped = True
            for end in self._ends:
                end()

    @contextmanager
    def ended_by(self, end: Callable[[], None]) -> Iterator[None]:
        """Within the block, `stop` calls `end`, on its own thread."""
        with self._gate:
            if self._stopped:
                raise LoadingStoppedError
            self._ends.append(end)
        try:
            yield
        finally:
            with self._gate:
                self._ends.remove(end)

    @property
    def left_s(self) -> float:
        """Until there must have been progress; negative when there should have been."""
        return self._due_s - self._clock()

    @property
    def stall(self) -> LoadingStalledError:
        """What to say when there was none."""
        return LoadingStalledError(
            f"{self._part}: expected progress within {self._patience_s:.0f} s, got none, so the start has failed. "
            "Look for a disk or a device that does not answer."
        )
