"""What is wrong with a turn, as its caller is told."""

from __future__ import annotations

from bise_daemon.errors import RequestError
from bise_proto.v1.inference_pb2 import ConverseResponse, Refused


def to_refused(error: RequestError) -> ConverseResponse:
    """The error as the end of a turn."""
    return ConverseResponse(
        refused=Refused(
            reason=error.reason.value,
            numbers={name: str(value) for name, value in error.numbers.items()},
            message=error.message,
            retry_after_ms=error.retry_after_ms,
        )
    )
