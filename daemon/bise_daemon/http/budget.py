"""Budgets by header, for clients that can add headers but no fields."""

from __future__ import annotations

from collections.abc import Mapping

from bise_daemon.http.fields import invalid
from bise_proto.v1 import inference_pb2

_BUDGETS = {
    "x-bise-timeout-ms": "total_ms",
    "x-bise-first-token-ms": "first_token_ms",
    "x-bise-per-token-ms": "per_token_ms",
}
_PRIORITY = "x-bise-priority"
_UINT32 = (1 << 32) - 1


def put_headers(headers: Mapping[str, str], options: inference_pb2.Options) -> None:
    """Puts what the headers say of budget and priority over `options`.

    Raises:
        RequestError: INVALID_OPTION, naming the header.
    """
    for header, field in _BUDGETS.items():
        if (text := headers.get(header)) is not None:
            if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= _UINT32):
                raise invalid(header, f"expected a whole number of milliseconds, got {text[:40]!r}")
            setattr(options.budget, field, int(text))
    if (text := headers.get(_PRIORITY)) is not None:
        if text.upper() not in inference_pb2.Priority.keys():  # noqa: SIM118 - it is no mapping
            names = ", ".join(inference_pb2.Priority.keys())
            raise invalid(_PRIORITY, f"expected one of {names}; got {text[:40]!r}")
        options.priority = inference_pb2.Priority.Value(text.upper())  # type: ignore[assignment]  # an enum's value
