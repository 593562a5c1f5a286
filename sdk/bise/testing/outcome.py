"""Errors of a script, put on the wire as the daemon would."""

from __future__ import annotations

from typing import NoReturn

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from bise.errors import (
    BiseError,
    Cancelled,
    ConversationLost,
    DaemonUnavailable,
    DeadlineExceeded,
    InvalidRequest,
    Refused,
    Unsupported,
)
from bise.rpc_error import BY_REASON, ERROR_DOMAIN
from bise_proto.v1 import inference_pb2 as pb

_CODES: dict[type[BiseError], grpc.StatusCode] = {
    DaemonUnavailable: grpc.StatusCode.UNAVAILABLE,
    Refused: grpc.StatusCode.RESOURCE_EXHAUSTED,
    DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    ConversationLost: grpc.StatusCode.NOT_FOUND,
    Unsupported: grpc.StatusCode.FAILED_PRECONDITION,
    Cancelled: grpc.StatusCode.CANCELLED,
}
# An error with a reason of its own needs not be told it.
_ONLY_REASONS = {kind: reason for reason, kind in BY_REASON.items() if list(BY_REASON.values()).count(kind) == 1}


def abort(context: grpc.ServicerContext, error: BiseError) -> NoReturn:
    """Ends the call with the error, as the daemon would tell it."""
    code = next((code for kind, code in _CODES.items() if isinstance(error, kind)), grpc.StatusCode.INTERNAL)
    status = status_pb2.Status(code=code.value[0], message=str(error))
    info = error_details_pb2.ErrorInfo(
        reason=_reason(error),
        domain=ERROR_DOMAIN,
        metadata={name: str(number) for name, number in error.numbers.items()},
    )
    status.details.append(_packed(info))
    if error.retry_after_s is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(round(error.retry_after_s * 1e9))
        status.details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
    context.abort_with_status(rpc_status.to_status(status))
    raise AssertionError("abort_with_status raises")


def refused(error: BiseError) -> pb.Refused:
    """The error as the end of a conversation's turn."""
    return pb.Refused(
        reason=_reason(error),
        numbers={name: str(number) for name, number in error.numbers.items()},
        message=str(error),
        retry_after_ms=None if error.retry_after_s is None else round(error.retry_after_s * 1e3),
    )


def _reason(error: BiseError) -> str:
    return error.reason or _ONLY_REASONS.get(type(error), "")


def _packed(detail: error_details_pb2.ErrorInfo | error_details_pb2.RetryInfo) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed
