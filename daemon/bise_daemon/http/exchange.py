"""One request and its answer, whole or streamed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager

import anyio
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from bise_daemon.answering import Answering, Responses
from bise_daemon.errors import Reason, RequestError
from bise_daemon.http.answer import AnswerForm, Envelope, finish_reason, outcome, promise, usage
from bise_daemon.http.budget import put_headers
from bise_daemon.http.chat_answer import ChatForm
from bise_daemon.http.chat_request import ChatFields
from bise_daemon.http.completion_answer import CompletionForm
from bise_daemon.http.completion_request import CompletionFields
from bise_daemon.http.error import HttpError
from bise_daemon.http.json_text import Json, encoded
from bise_proto.v1 import inference_pb2

# A body that takes longer than this to come in holds a connection for nothing.
_READING_S = 30.0
_STREAM_HEADERS = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-store"}
_WHOLE_HEADERS = {"content-type": "application/json", "cache-control": "no-store"}


class Exchange:
    """An endpoint, as ASGI has it: a request's JSON in, an answer's JSON out.

    Args:
        answering: who answers.
        model: the name of the model served; raises RequestError while there is none.
        max_bytes: of a body.
    """

    fields: type[ChatFields] | type[CompletionFields]
    form: Callable[[], AnswerForm]

    def __init__(self, answering: Answering, model: Callable[[], str], max_bytes: int) -> None:
        self._answering = answering
        self._model = model
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request; a caller that leaves ends the answer."""
        request = Request(scope, receive)
        try:
            body = await _body(request, self._max_bytes)
        except ClientDisconnect:
            return
        fields = self.fields.read(body)
        if fields.model != (model := self._model()):
            raise HttpError(
                404, "UNKNOWN_MODEL", f"model: expected {model!r}, got {fields.model[:100]!r}.", {"field": "model"}
            )
        asked = fields.request()
        put_headers(request.headers, asked.options)
        fields.put_own(asked.options)
        async with _while_connected(receive), aclosing(self._start(asked)) as responses:
            accepted = (await anext(responses)).accepted
            form = self.form()
            if fields.stream:
                envelope = Envelope(form.id_prefix + accepted.request_id, form.chunk_object, model)
                await _stream(send, _chunks(form, envelope, accepted, responses, fields.includes_usage))
            else:
                envelope = Envelope(form.id_prefix + accepted.request_id, form.whole_object, model)
                await _whole(send, await _collected(form, envelope, accepted, responses))

    def _start(self, asked: inference_pb2.ChatRequest | inference_pb2.GenerateRequest) -> Responses:
        if isinstance(asked, inference_pb2.ChatRequest):
            return self._answering.chat(asked)
        return self._answering.generate(asked)


class ChatExchange(Exchange):
    """`/v1/chat/completions`."""

    fields = ChatFields
    form = ChatForm


class CompletionExchange(Exchange):
    """`/v1/completions`."""

    fields = CompletionFields
    form = CompletionForm


async def _body(request: Request, max_bytes: int) -> bytes:
    """The request's body, read no further than it may be long."""
    body = bytearray()
    try:
        async with asyncio.timeout(_READING_S):
            async for piece in request.stream():
                body += piece
                if len(body) > max_bytes:
                    raise RequestError(
                        Reason.MESSAGE_TOO_LARGE,
                        f"expected a request of at most {max_bytes} bytes, got more. Send less text.",
                        numbers={"max_message_bytes": max_bytes},
                    )
    except TimeoutError:
        message = f"expected the whole request within {_READING_S:.0f} s. Send it faster, or less."
        raise HttpError(408, "REQUEST_TIMEOUT", message) from None
    return bytes(body)


@asynccontextmanager
async def _while_connected(receive: Receive) -> AsyncIterator[None]:
    """Leaves the block when the caller hangs up: a request is aborted then, whether anything is being sent or not."""

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        scope.cancel()

    with anyio.CancelScope() as scope:
        watcher = asyncio.create_task(watch())
        try:
            yield
        finally:
            watcher.cancel()


async def _collected(
    form: AnswerForm, envelope: Envelope, accepted: inference_pb2.Accepted, responses: Responses
) -> Json:
    deltas: list[inference_pb2.Delta] = []
    async for response in responses:
        if response.WhichOneof("event") == "delta":
            deltas.append(response.delta)
            continue
        done = response.done
        choice = form.whole(deltas, finish_reason(done))
        own = {**promise(accepted), **outcome(done)}
        return envelope.around([choice], usage=usage(done), bise=own)
    raise AssertionError("an answer ends with a Done")


async def _chunks(
    form: AnswerForm,
    envelope: Envelope,
    accepted: inference_pb2.Accepted,
    responses: Responses,
    includes_usage: bool,
) -> AsyncGenerator[Json, None]:
    """The objects of a stream. What goes wrong in its middle is one of them: the status is sent long since."""
    more: Json = {"usage": None} if includes_usage else {}
    try:
        opening = form.opening()
        yield envelope.around([] if opening is None else [opening], **more, bise=promise(accepted))
        async for response in responses:
            if response.WhichOneof("event") == "delta":
                yield envelope.around([form.piece(response.delta)], **more)
                continue
            done = response.done
            yield envelope.around([form.ending(finish_reason(done))], **more, bise=outcome(done))
            if includes_usage:
                yield envelope.around([], usage=usage(done))
    except RequestError as error:
        yield HttpError.of(error).body


async def _stream(send: Send, chunks: AsyncGenerator[Json, None]) -> None:
    await send(_start_of(_STREAM_HEADERS))
    async with aclosing(chunks):
        async for chunk in chunks:
            await send({"type": "http.response.body", "body": b"data: %s\n\n" % encoded(chunk), "more_body": True})
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})


async def _whole(send: Send, answer: Json) -> None:
    body = encoded(answer)
    await send(_start_of({**_WHOLE_HEADERS, "content-length": str(len(body))}))
    await send({"type": "http.response.body", "body": body})


def _start_of(headers: dict[str, str]) -> Json:
    encoded_headers = [(name.encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http.response.start", "status": 200, "headers": encoded_headers}
