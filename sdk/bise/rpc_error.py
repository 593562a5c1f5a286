"""From a failed RPC to the error its caller sees: by the daemon's reason first, else by gRPC's status code."""

from __future__ import annotations

from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

from bise.address import Address
from bise.errors import (
    BiseError,
    Cancelled,
    ContextOverflow,
    ConversationLost,
    DaemonError,
    DaemonUnavailable,
    DeadlineExceeded,
    InvalidRequest,
    LowMemory,
    Number,
    OverBudget,
    Refused,
    Unsupported,
)
from bise_proto.v1 import inference_pb2 as pb

ERROR_DOMAIN = "bise"
DETAILS_KEY = "grpc-status-details-bin"

BY_REASON: dict[str, type[BiseError]] = {
    "CONTEXT_OVERFLOW": ContextOverflow,
    "EMPTY_PROMPT": InvalidRequest,
    "INVALID_TOKEN_ID": InvalidRequest,
    "INVALID_OPTION": InvalidRequest,
    "INVALID_MESSAGE": InvalidRequest,
    "MESSAGE_TOO_LARGE": InvalidRequest,
    "CHAT_UNSUPPORTED": Unsupported,
    "TOOLS_UNSUPPORTED": Unsupported,
    "BUDGET": OverBudget,
    "MEMORY": LowMemory,
    "QUEUE_FULL": Refused,
    "DRAINING": Refused,
    "LOADING": Refused,
    "ENGINE_FAILED": DaemonError,
    "DEADLINE": DeadlineExceeded,
    "CONVERSATION_LOST": ConversationLost,
    "CONVERSATION_MOVED": Cancelled,
}
_BY_CODE: dict[grpc.StatusCode, type[BiseError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequest,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Refused,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.UNAVAILABLE: DaemonUnavailable,
    grpc.StatusCode.UNIMPLEMENTED: Unsupported,
    grpc.StatusCode.FAILED_PRECONDITION: Unsupported,
    grpc.StatusCode.CANCELLED: Cancelled,
}
# gRPC itself, not the daemon, refuses a message over its size limit; it knows no better code for it.
_SIZE_LIMIT_WORDS = "message larger than max"


def from_rpc(error: grpc.aio.AioRpcError, address: Address) -> BiseError:
    """The typed error for a failed RPC."""
    code, details = error.code(), error.details() or ""
    info, retry_after_s = _rich_details(error)
    reason = info.reason if info else ""
    if not reason and _SIZE_LIMIT_WORDS in details:
        reason = "MESSAGE_TOO_LARGE"
    kind = BY_REASON.get(reason) or _BY_CODE.get(code, DaemonError)
    return kind(
        details if info else _own_words(kind, code, details, address),
        reason=reason,
        numbers={name: _number(value) for name, value in info.metadata.items()} if info else {},
        retry_after_s=retry_after_s,
    )


def from_refused(refused: pb.Refused) -> BiseError:
    """The typed error for a turn of a conversation that is refused."""
    return BY_REASON.get(refused.reason, DaemonError)(
        refused.message,
        reason=refused.reason,
        numbers={name: _number(value) for name, value in refused.numbers.items()},
        retry_after_s=refused.retry_after_ms / 1e3 if refused.HasField("retry_after_ms") else None,
    )


def unavailable(address: Address, details: str) -> DaemonUnavailable:
    """The error for an address nobody answers at; `details` tell why where the file system does not."""
    why = address.diagnosis() or details
    return DaemonUnavailable(
        f"no daemon answers at {address.url}: {why}. Start one with `bise serve`, or set BISE_ADDRESS."
    )


def _own_words(kind: type[BiseError], code: grpc.StatusCode, details: str, address: Address) -> str:
    """A message for what gRPC reports without the daemon's explanation."""
    if kind is DaemonUnavailable:
        return str(unavailable(address, details))
    if kind is DeadlineExceeded:
        return f"the daemon at {address.url} did not answer in time. Allow more with timeout=, or see `bise health`."
    return f"{details or 'no details'} ({code.name}, from {address.url})"


def _rich_details(
    error: grpc.aio.AioRpcError,
) -> tuple[error_details_pb2.ErrorInfo | None, float | None]:
    """The daemon's ErrorInfo, and the seconds of its RetryInfo."""
    info, retry_after_s = None, None
    metadata: Any = error.trailing_metadata() or ()
    for key, value in metadata:
        if key != DETAILS_KEY:
            continue
        for detail in status_pb2.Status.FromString(value).details:
            if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
                found = error_details_pb2.ErrorInfo.FromString(detail.value)
                info = found if found.domain == ERROR_DOMAIN else info
            elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
                delay = error_details_pb2.RetryInfo.FromString(detail.value).retry_delay
                retry_after_s = delay.seconds + delay.nanos / 1e9
    return info, retry_after_s


def _number(text: str) -> Number:
    """A figure of ErrorInfo, whose metadata are all text on the wire."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
