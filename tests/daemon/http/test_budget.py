"""Budgets by header."""

from __future__ import annotations

import pytest

from bise_daemon.errors import RequestError
from bise_daemon.http.budget import put_headers
from bise_proto.v1 import inference_pb2


def test_each_header_is_one_field() -> None:
    options = inference_pb2.Options()
    put_headers(
        {
            "x-bise-timeout-ms": "900",
            "x-bise-first-token-ms": "80",
            "x-bise-per-token-ms": "20",
            "x-bise-priority": "critical",
        },
        options,
    )
    budget = inference_pb2.Budget(total_ms=900, first_token_ms=80, per_token_ms=20)
    assert options == inference_pb2.Options(budget=budget, priority=inference_pb2.CRITICAL)


def test_none_is_none() -> None:
    options = inference_pb2.Options()
    put_headers({"content-type": "application/json"}, options)
    assert options == inference_pb2.Options()


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5", "²", "4294967296", "9" * 5000, " 5"])
def test_what_is_no_number_of_milliseconds_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="x-bise-timeout-ms: expected a whole number"):
        put_headers({"x-bise-timeout-ms": text}, inference_pb2.Options())


def test_an_unknown_class_is_refused() -> None:
    with pytest.raises(RequestError, match="x-bise-priority: expected one of INTERACTIVE, CRITICAL, BACKGROUND"):
        put_headers({"x-bise-priority": "urgent"}, inference_pb2.Options())
