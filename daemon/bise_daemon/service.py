"""The gRPC servicer of `bise.v1.Inference`: what it is asked is answered elsewhere, refusals become statuses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TypeVar

from bise_daemon.answering import Answering
from bise_daemon.dialogue.exchange import Exchange
from bise_daemon.dialogue.held import HeldDialogues
from bise_daemon.engine.loop import clock_ms
from bise_daemon.errors import RequestError
from bise_daemon.wire import Context, abort
from bise_proto.v1 import inference_pb2, inference_pb2_grpc

T = TypeVar("T")


class InferenceService(inference_pb2_grpc.InferenceServicer):
    """`bise.v1.Inference`."""

    def __init__(self, answering: Answering, held: HeldDialogues) -> None:
        self._answering = answering
        self._held = held

    async def Generate(  # noqa: N802 - the proto's name
        self, request: inference_pb2.GenerateRequest, context: Context
    ) -> AsyncIterator[inference_pb2.GenerateResponse]:
        """Continues a prompt."""
        answer = self._answering.generate(request, _remaining_ms(context), _traceparent(context))
        async with aclosing(answer) as responses:
            async for response in _or_abort(responses, context):
                yield response

    async def Chat(  # noqa: N802 - the proto's name
        self, request: inference_pb2.ChatRequest, context: Context
    ) -> AsyncIterator[inference_pb2.GenerateResponse]:
        """Answers messages."""
        answer = self._answering.chat(request, _remaining_ms(context), _traceparent(context))
        async with aclosing(answer) as responses:
            async for response in _or_abort(responses, context):
                yield response

    async def Converse(  # noqa: N802 - the proto's name
        self, request_iterator: AsyncIterator[inference_pb2.ConverseRequest], context: Context
    ) -> AsyncIterator[inference_pb2.ConverseResponse]:
        """Answers what is said, turn after turn."""
        exchange = Exchange(
            self._answering, self._held, aiter(request_iterator), lambda: _remaining_ms(context), clock_ms
        )
        async with aclosing(exchange.responses()) as responses:
            async for response in _or_abort(responses, context):
                yield response

    async def CountTokens(  # noqa: N802 - the proto's name
        self, request: inference_pb2.CountTokensRequest, context: Context
    ) -> inference_pb2.CountTokensResponse:
        """Tokenizes only."""
        try:
            return await self._answering.count_tokens(request, _remaining_ms(context))
        except RequestError as error:
            await abort(context, error)


async def _or_abort(responses: AsyncIterator[T], context: Context) -> AsyncIterator[T]:
    try:
        async for response in responses:
            yield response
    except RequestError as error:
        await abort(context, error)


def _remaining_ms(context: Context) -> float | None:
    remaining_s: float | None = context.time_remaining()  # the stubs forget that there may be none
    return None if remaining_s is None else remaining_s * 1e3


def _traceparent(context: Context) -> str | None:
    """What the caller says of its own span; unchecked."""
    told = [value for name, value in context.invocation_metadata() or () if name == "traceparent"]
    return told[0] if len(told) == 1 and isinstance(told[0], str) else None
