"""Everything a call can raise.

    BiseError
    ├── DaemonUnavailable   nobody answers at the address                        also a ConnectionError
    ├── Refused             a typed, immediate no: try again in retry_after_s
    │   ├── OverBudget          the stated budget can't be kept
    │   └── LowMemory           the device is short of memory
    ├── DeadlineExceeded    the time allowed ran out without an answer           also a TimeoutError
    ├── InvalidRequest      the request can't be served as it is                 also a ValueError
    │   └── ContextOverflow     prompt and max_tokens exceed the context limit
    ├── ConversationLost    the daemon does not hold the conversation any more
    ├── Unsupported         this daemon or this model can't do it at all
    ├── Cancelled           the answer was cancelled while somebody read it
    └── DaemonError         the daemon failed, or said something out of turn

A call that stops early by its own budget is not an error: its result says `finish_reason == "deadline"`,
unless it was made with `on_expiry="fail"`. A wrong keyword is a TypeError, as for any function.
"""

# ruff: noqa: N818 - an outcome is named for what happened; its base says that it is an error
from __future__ import annotations

from collections.abc import Mapping

Number = int | float | str


class BiseError(Exception):
    """Base of all errors of a call.

    Attributes:
        reason: the daemon's name of what went wrong, for instance `QUEUE_FULL`; empty when it gave none.
        numbers: the figures behind it, for instance `{"queued": 64, "max_queue": 64}`.
        retry_after_s: seconds after which the same call could succeed; None when the daemon does not know.
        partial: the text of the answer received before the failure.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        numbers: Mapping[str, Number] | None = None,
        retry_after_s: float | None = None,
        partial: str = "",
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.numbers = dict(numbers or {})
        self.retry_after_s = retry_after_s
        self.partial = partial


class DaemonUnavailable(BiseError, ConnectionError):
    """No daemon answers at the address, or the connection broke."""


class Refused(BiseError):
    """The daemon does not take the request now: queue full, loading, draining, or for a reason with a class of its own.

    `numbers` say why, and `retry_after_s` when to try again.
    """


class OverBudget(Refused):
    """What the caller stated (`timeout`, `first_token_timeout`, `per_token_timeout`) can't be kept; nothing was begun.

    `numbers` has what is predicted beside what was stated, for instance `predicted_first_token_ms` and
    `first_token_ms`. A `retry_after_s` is when it could be kept; without one, waiting does not help: allow more
    time, or ask for less.
    """


class LowMemory(Refused):
    """The device is short of memory for this request; a shorter one may still be taken."""


class DeadlineExceeded(BiseError, TimeoutError):
    """The time allowed ran out, and there is no answer or the caller asked for all or nothing."""


class InvalidRequest(BiseError, ValueError):
    """The request can't be served as it is; the message says what was expected and what was got."""

    @property
    def field(self) -> str:
        """The field at fault, for instance `temperature`; empty when the fault is not in one field."""
        return str(self.numbers.get("field", ""))


class ContextOverflow(InvalidRequest):
    """Prompt and answer together exceed the context limit; `numbers` has the counts."""


class ConversationLost(BiseError):
    """The daemon does not hold the conversation to be resumed: open a new one, with what was said in it."""


class Unsupported(BiseError):
    """This daemon or its model can't do what was asked, now or later."""


class Cancelled(BiseError):
    """The answer was cancelled: its stream was closed elsewhere, the client was closed, or the daemon gave it up."""


class DaemonError(BiseError):
    """The daemon failed at its own work, or broke the protocol."""
