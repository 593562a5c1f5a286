"""What stage the daemon is in, and what it serves with."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from bise_daemon.engine.dispatcher import Dispatcher
from bise_daemon.errors import Reason, RequestError
from bise_daemon.grammar.compiler import Compiler
from bise_daemon.models.model import Model
from bise_daemon.reception import Reception

_RETRY_LOADING_MS = 1000


@dataclass(frozen=True, slots=True)
class Serving:
    """A model at work."""

    model: Model
    dispatcher: Dispatcher
    reception: Reception
    formats: Compiler


class Stage:
    """Loading, then serving, then draining; each step is taken once, by the server.

    Args:
        most_waiting: requests that may wait while the model loads; others are refused.
    """

    def __init__(self, most_waiting: int = 0) -> None:
        self._serving: Serving | None = None
        self._most_waiting = most_waiting
        self._waiting = 0
        self._moved_on = asyncio.Event()
        self.draining = False

    @property
    def current(self) -> Serving | None:
        """What the daemon serves with; None while it loads."""
        return self._serving

    def serve(self, serving: Serving) -> None:
        """The model is loaded."""
        self._serving = serving
        self._moved_on.set()

    def drain(self) -> None:
        """No new requests from here on."""
        self.draining = True
        self._moved_on.set()

    async def served(self, patience_s: float) -> Serving:
        """What to serve a new request with; while the model loads, it may have to wait for that.

        Raises:
            RequestError: LOADING or DRAINING.
        """
        if not self._moved_on.is_set() and self._waiting < self._most_waiting:
            self._waiting += 1
            try:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._moved_on.wait(), patience_s)
            finally:
                self._waiting -= 1
        return self.serving()

    def serving(self) -> Serving:
        """What to serve a new request with.

        Raises:
            RequestError: LOADING or DRAINING.
        """
        if self.draining:
            raise RequestError(Reason.DRAINING, "the daemon is shutting down. Ask again when it is back.")
        if self._serving is None:
            raise RequestError(
                Reason.LOADING, "the model is still loading. Wait for health SERVING.", retry_after_ms=_RETRY_LOADING_MS
            )
        return self._serving
