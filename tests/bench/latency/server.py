"""What the bench asks of a server under test, and what comes back."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from .trace import Call


class ServerError(Exception):
    """A server did not start, or did not keep to its protocol."""


class RefusedError(Exception):
    """The server said at once that it won't; the message is its reason."""


@dataclass(frozen=True, slots=True)
class Promise:
    """What a server says before the first token. Predictions in milliseconds from arrival."""

    first_token_ms: float
    total_ms: float
    granted_tokens: int


@dataclass(frozen=True, slots=True)
class Tokens:
    """Some tokens have come."""

    count: int


Event = Promise | Tokens


class Server(Protocol):
    """A server on this machine; started fresh for every run, so that no cache outlives it."""

    @property
    def name(self) -> str:
        """What tables and plots call it."""
        ...

    async def start(self) -> None:
        """Returns when requests can be sent.

        Raises:
            ServerError: it did not come up.
        """
        ...

    def send(self, call: Call) -> AsyncGenerator[Event, None]:
        """The answer as it comes; ends early where the server or its caller gave up at the total budget.

        Raises:
            RefusedError: an immediate no.
            ServerError: a failure.
        """
        ...

    async def stop(self) -> None:
        """Ends it; harmless if it never started."""
        ...
