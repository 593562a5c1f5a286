"""What stage the daemon is in, and what it serves with."""

from __future__ import annotations

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
    """Loading, then serving, then draining; each step is taken once, by the server."""

    def __init__(self) -> None:
        self._serving: Serving | None = None
        self.draining = False

    @property
    def current(self) -> Serving | None:
        """What the daemon serves with; None while it loads."""
        return self._serving

    def serve(self, serving: Serving) -> None:
        """The model is loaded."""
        self._serving = serving

    def drain(self) -> None:
        """No new requests from here on."""
        self.draining = True

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
