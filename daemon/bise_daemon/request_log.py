"""A line in the log for each request that ends, with its id, and for what it was asked if the operator wants that."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

from bise_daemon.errors import RequestError
from bise_daemon.logs import FIELDS
from bise_proto.v1 import inference_pb2

logger = logging.getLogger(__name__)

Responses = AsyncGenerator[inference_pb2.GenerateResponse, None]
Request = inference_pb2.GenerateRequest | inference_pb2.ChatRequest

_MAX_TEXT_CHARS = 4096


async def logged(operation: str, request: Request, responses: Responses, *, prompts: bool) -> Responses:
    """The same responses; how they ended is logged at DEBUG, and at INFO what was asked, if `prompts`.

    Raises:
        RequestError: what the responses raise.
    """
    request_id = ""
    try:
        async with aclosing(responses):
            async for response in responses:
                match response.WhichOneof("event"):
                    case "accepted":
                        request_id = response.accepted.request_id
                        if prompts:
                            _log_prompt(operation, request_id, request)
                    case "done":
                        _log_done(operation, request_id, response.done)
                yield response
    except RequestError as error:
        fields = {"request_id": request_id, "operation": operation, "reason": error.reason.value}
        logger.debug("%s %s: %s", operation, request_id or "refused", error.reason.value, extra={FIELDS: fields})
        raise


def _log_prompt(operation: str, request_id: str, request: Request) -> None:
    if isinstance(request, inference_pb2.GenerateRequest):
        text = request.prompt or f"{len(request.token_ids.ids)} token ids"
    else:
        text = "\n".join(f"{message.role}: {message.content}" for message in request.messages)
    text = text[:_MAX_TEXT_CHARS]
    fields = {"request_id": request_id, "operation": operation, "prompt": text}
    # As Python writes it: no line of a prompt looks like one of the log.
    logger.info("%s %s was asked %r", operation, request_id, text, extra={FIELDS: fields})


def _log_done(operation: str, request_id: str, done: inference_pb2.Done) -> None:
    usage, timings = done.usage, done.timings
    fields = {
        "request_id": request_id,
        "operation": operation,
        "finish_reason": inference_pb2.FinishReason.Name(done.finish_reason).lower(),
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "first_token_ms": round(timings.first_token_ms, 1),
        "total_ms": round(timings.total_ms, 1),
    }
    logger.debug(
        "%(operation)s %(request_id)s: %(prompt_tokens)d and %(completion_tokens)d tokens in %(total_ms).0f ms, the "
        "first after %(first_token_ms).0f ms, %(finish_reason)s",
        fields,
        extra={FIELDS: fields},
    )
