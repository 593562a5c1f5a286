"""Errors as OpenAI's clients read them."""

from __future__ import annotations

import pytest

from bise_daemon.errors import Reason, RequestError
from bise_daemon.http.error import STATUS_CODES, HttpError


def test_every_reason_has_a_status() -> None:
    assert set(STATUS_CODES) == set(Reason)


def test_a_refusal_says_when_to_try_again_and_by_how_much_it_missed() -> None:
    numbers = {"missed": "total_ms", "needed_ms": 812.5}
    error = HttpError.of(RequestError(Reason.BUDGET, "too late.", numbers=numbers, retry_after_ms=1200))
    assert error.status == 429
    assert error.headers == {"retry-after": "2", "retry-after-ms": "1200"}
    assert error.body == {
        "error": {
            "message": "too late.",
            "type": "rate_limit_error",
            "param": None,
            "code": "BUDGET",
            "reason": "BUDGET",
            "numbers": numbers,
            "retry_after_ms": 1200,
        }
    }


@pytest.mark.parametrize(
    ("reason", "kind", "headers"),
    [
        (Reason.BUDGET, "rate_limit_error", {"x-should-retry": "false"}),
        (Reason.DEADLINE, "server_error", {"x-should-retry": "false"}),
        (Reason.INVALID_OPTION, "invalid_request_error", {"x-should-retry": "false"}),
        (Reason.DRAINING, "server_error", {}),
    ],
)
def test_who_need_not_try_again_is_told(reason: Reason, kind: str, headers: dict[str, str]) -> None:
    error = HttpError.of(RequestError(reason, "no."))
    assert error.headers == headers
    assert error.body["error"]["type"] == kind


def test_openai_s_own_words_are_used_where_clients_look_for_them() -> None:
    error = HttpError.of(RequestError(Reason.CONTEXT_OVERFLOW, "too long.", numbers={"field": "messages"}))
    assert error.body["error"]["code"] == "context_length_exceeded"
    assert error.body["error"]["param"] == "messages"
