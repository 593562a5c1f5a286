"""What can go wrong with one request, as its caller reads it; the service maps reasons to status codes."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class Reason(StrEnum):
    """Why a request is refused or ended; part of the wire contract (`google.rpc.ErrorInfo.reason`)."""

    CONTEXT_OVERFLOW = "CONTEXT_OVERFLOW"
    EMPTY_PROMPT = "EMPTY_PROMPT"
    INVALID_TOKEN_ID = "INVALID_TOKEN_ID"  # noqa: S105 - a reason, not a secret
    INVALID_OPTION = "INVALID_OPTION"
    INVALID_MESSAGE = "INVALID_MESSAGE"
    CHAT_UNSUPPORTED = "CHAT_UNSUPPORTED"
    TOOLS_UNSUPPORTED = "TOOLS_UNSUPPORTED"
    MESSAGE_TOO_LARGE = "MESSAGE_TOO_LARGE"
    QUEUE_FULL = "QUEUE_FULL"
    BUDGET = "BUDGET"
    MEMORY = "MEMORY"
    DRAINING = "DRAINING"
    LOADING = "LOADING"
    ENGINE_FAILED = "ENGINE_FAILED"
    DEADLINE = "DEADLINE"
    CONVERSATION_LOST = "CONVERSATION_LOST"
    CONVERSATION_MOVED = "CONVERSATION_MOVED"


class RequestError(Exception):
    """A request can't be served, or not to its end.

    Attributes:
        reason: what kind of refusal this is, for programs.
        message: what was expected, what was got and what to do next, for people.
        numbers: the values behind the decision, by name (units in the names).
        retry_after_ms: when trying again can help, in milliseconds; None where it can't.
    """

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        numbers: Mapping[str, int | float | str] | None = None,
        retry_after_ms: int | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.numbers: Mapping[str, int | float | str] = MappingProxyType(dict(numbers or {}))
        self.retry_after_ms = retry_after_ms

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"
