"""What goes wrong, in OpenAI's shape, with bise's reason and numbers in it."""

from __future__ import annotations

import math
from collections.abc import Mapping

from starlette.responses import Response

from bise_daemon.errors import Reason, RequestError
from bise_daemon.http.json_text import Json, json_response

STATUS_CODES = {
    Reason.CONTEXT_OVERFLOW: 400,
    Reason.EMPTY_PROMPT: 400,
    Reason.INVALID_TOKEN_ID: 400,
    Reason.INVALID_OPTION: 400,
    Reason.INVALID_MESSAGE: 400,
    Reason.CHAT_UNSUPPORTED: 400,
    Reason.TOOLS_UNSUPPORTED: 400,
    Reason.MESSAGE_TOO_LARGE: 413,
    Reason.QUEUE_FULL: 429,
    Reason.BUDGET: 429,
    Reason.MEMORY: 429,
    Reason.DRAINING: 503,
    Reason.LOADING: 503,
    Reason.ENGINE_FAILED: 500,
    Reason.DEADLINE: 504,
    # Of spoken conversations, which this door has none of.
    Reason.CONVERSATION_LOST: 404,
    Reason.CONVERSATION_MOVED: 409,
}
# Where OpenAI has a word of its own that clients look for.
_CODES = {"CONTEXT_OVERFLOW": "context_length_exceeded", "UNKNOWN_MODEL": "model_not_found"}


class HttpError(Exception):
    """A request that gets an error.

    Attributes:
        status: HTTP's.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        numbers: Mapping[str, int | float | str] | None = None,
        retry_after_ms: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self._reason = reason
        self._message = message
        self._numbers = dict(numbers or {})
        self._retry_after_ms = retry_after_ms

    @classmethod
    def of(cls, error: RequestError) -> HttpError:
        """The daemon's own error."""
        status = STATUS_CODES[error.reason]
        return cls(status, error.reason.value, error.message, error.numbers, error.retry_after_ms)

    @property
    def headers(self) -> dict[str, str]:
        """When to try again: in HTTP's seconds, and in the milliseconds that OpenAI's clients prefer.

        Where waiting can't help, they are told so: by themselves they try everything from 429 on twice again.
        """
        if self._retry_after_ms is not None:
            return {
                "retry-after": str(math.ceil(self._retry_after_ms / 1e3)),
                "retry-after-ms": str(self._retry_after_ms),
            }
        return {} if self.status == 503 else {"x-should-retry": "false"}

    def response(self, headers: Mapping[str, str] | None = None) -> Response:
        """It as what is sent, with more headers if there are."""
        return json_response(self.body, self.status, {**self.headers, **(headers or {})})

    @property
    def body(self) -> Json:
        """The error object."""
        return {
            "error": {
                "message": self._message,
                "type": _type(self.status),
                "param": self._numbers.get("field"),
                "code": _CODES.get(self._reason, self._reason),
                "reason": self._reason,
                "numbers": self._numbers,
                "retry_after_ms": self._retry_after_ms,
            }
        }


def _type(status: int) -> str:
    if status == 429:
        return "rate_limit_error"
    return "invalid_request_error" if status < 500 else "server_error"
