"""Requests that are wrong, each in its own way, and the answer that each must get."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc

from bise.address import parse
from bise.rpc_error import from_rpc
from bise_proto.v1 import inference_pb2 as pb

GENERATE, CHAT = "/bise.v1.Inference/Generate", "/bise.v1.Inference/Chat"
# A full queue is told before a prompt is looked at.
_ALWAYS_RIGHT = "QUEUE_FULL"
_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """What the daemon under test takes."""

    context_tokens: int
    message_bytes: int
    vocabulary: int


@dataclass(frozen=True, slots=True)
class Wrong:
    """One wrong request: its bytes, and the reason the SDK gives (or, without one, the gRPC code) that is right."""

    method: str
    message: bytes
    expected: str


def wrong_requests(sizes: Sizes) -> dict[str, Wrong]:
    """All ways to be wrong, by name."""
    far_too_long = "x" * (sizes.message_bytes + 1)
    return {
        "no prompt": Wrong(GENERATE, b"", "EMPTY_PROMPT"),
        "no tokens": _generate("EMPTY_PROMPT", ids=[]),
        "a token that is none": _generate("INVALID_TOKEN_ID", ids=[5, sizes.vocabulary]),
        "the largest token": _generate("INVALID_TOKEN_ID", ids=[2**32 - 1]),
        "no answer wanted": _generate("INVALID_OPTION", max_tokens=0),
        "prompt beyond the context": _generate("CONTEXT_OVERFLOW", ids=[5] * (sizes.context_tokens + 1)),
        "unknown priority": _generate("INVALID_OPTION", priority=99),
        "bias for a token that is none": _sampling(logit_bias={sizes.vocabulary: 1.0}),
        "bias that is no number": _sampling(logit_bias={5: float("nan")}),
        "endless temperature": _sampling(temperature=float("inf")),
        "negative top_p": _sampling(top_p=-0.5),
        "alternatives without logprobs": _generate("INVALID_OPTION", top_logprobs=3),
        "empty stop": _generate("INVALID_OPTION", stop=[""]),
        "message too large": Wrong(
            GENERATE, pb.GenerateRequest(prompt=far_too_long).SerializeToString(), "MESSAGE_TOO_LARGE"
        ),
        "chat without messages": Wrong(CHAT, b"", "INVALID_MESSAGE"),
        "chat of an unknown role": Wrong(
            CHAT,
            pb.ChatRequest(messages=[pb.Message(role="narrator", content="Once")]).SerializeToString(),
            "INVALID_MESSAGE",
        ),
        "larger than the transport takes": Wrong(
            GENERATE, pb.GenerateRequest(prompt=far_too_long * 5).SerializeToString(), "MESSAGE_TOO_LARGE"
        ),
        "not a message": Wrong(GENERATE, b"\xff" * 64, "UNKNOWN"),
        "not a method": Wrong("/bise.v1.Inference/Nothing", b"", "UNIMPLEMENTED"),
    }


async def send(address: str, wrong: Wrong) -> str:
    """Sends it over a connection of its own; what came back, as `Wrong.expected` names it."""
    near = parse(address)
    async with grpc.aio.insecure_channel(near.target) as channel:
        call: Callable[..., Any] = channel.unary_stream(wrong.method)
        try:
            async for _ in call(wrong.message, timeout=_TIMEOUT_S):
                return "an answer"
        except grpc.aio.AioRpcError as error:
            return from_rpc(error, near).reason or error.code().name
    return "an empty answer"


def is_right(wrong: Wrong, got: str) -> bool:
    """Whether this answer to it is one."""
    return got in (wrong.expected, _ALWAYS_RIGHT)


def _generate(expected: str, ids: list[int] | None = None, **options: Any) -> Wrong:
    tokens = pb.TokenIds(ids=[5, 6, 7] if ids is None else ids)
    request = pb.GenerateRequest(token_ids=tokens, options=pb.Options(**options))
    return Wrong(GENERATE, request.SerializeToString(), expected)


def _sampling(**values: Any) -> Wrong:
    return _generate("INVALID_OPTION", sampling=pb.Sampling(**values))
