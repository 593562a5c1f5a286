"""The gRPC servicers: requests become jobs for the engine, its events become responses. No decisions are made here."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager

from bise_daemon.admission import admit, check_queue
from bise_daemon.chat.message import Prompt
from bise_daemon.config.daemon import DaemonConfig
from bise_daemon.engine.detokenize import StopMatcher
from bise_daemon.engine.events import Event, Failed, Finish, Finished
from bise_daemon.engine.generation import Generation, Piece
from bise_daemon.engine.loop import clock_ms
from bise_daemon.engine.sampling import Sampler
from bise_daemon.errors import Reason, RequestError
from bise_daemon.scheduler.request import Request
from bise_daemon.serving import Serving, Stage
from bise_daemon.wire import Context, abort, to_delta, to_done, to_messages, to_sampling
from bise_proto.v1 import inference_pb2, inference_pb2_grpc

Encode = Callable[[Serving], Prompt]

ProtoRequest = inference_pb2.GenerateRequest | inference_pb2.ChatRequest | inference_pb2.CountTokensRequest

# Tokenizing this much takes about a millisecond; more of it must not hold up other calls.
_INLINE_BYTES = 4096
# A partial answer must be on its way before the caller's own deadline cuts the line.
_DEADLINE_MARGIN_MS = 20.0
# An answer that has ended must be read within this.
_READING_GRACE_MS = 5000.0


class InferenceService(inference_pb2_grpc.InferenceServicer):
    """`bise.v1.Inference`."""

    def __init__(self, stage: Stage, config: DaemonConfig) -> None:
        self._stage = stage
        self._max_message_bytes = config.max_message_bytes
        self._default_timeout_ms = config.default_timeout_s * 1e3

    async def Generate(  # noqa: N802 - the proto's name
        self, request: inference_pb2.GenerateRequest, context: Context
    ) -> AsyncIterator[inference_pb2.GenerateResponse]:
        """Continues a prompt."""

        def encode(serving: Serving) -> Prompt:
            if request.WhichOneof("input") == "token_ids":
                return Prompt(list(request.token_ids.ids), "")
            return Prompt(serving.model.tokenizer.encode(request.prompt), request.prompt)

        async with aclosing(self._answer(encode, request, context, continues=True)) as responses:
            async for response in responses:
                yield response

    async def Chat(  # noqa: N802 - the proto's name
        self, request: inference_pb2.ChatRequest, context: Context
    ) -> AsyncIterator[inference_pb2.GenerateResponse]:
        """Answers messages."""

        def encode(serving: Serving) -> Prompt:
            return serving.model.chat.encode(to_messages(request.messages))

        async with aclosing(self._answer(encode, request, context, continues=False)) as responses:
            async for response in responses:
                yield response

    async def CountTokens(  # noqa: N802 - the proto's name
        self, request: inference_pb2.CountTokensRequest, context: Context
    ) -> inference_pb2.CountTokensResponse:
        """Tokenizes only."""

        def encode(serving: Serving) -> Prompt:
            if request.WhichOneof("input") == "chat":
                return serving.model.chat.encode(to_messages(request.chat.messages))
            return Prompt(serving.model.tokenizer.encode(request.prompt), request.prompt)

        try:
            serving = self._stage.serving()
            prompt = await self._encode(serving, encode, request)
        except RequestError as error:
            await abort(context, error)
        return inference_pb2.CountTokensResponse(
            count=len(prompt.token_ids),
            token_ids=prompt.token_ids,
            context_limit=serving.capacity.context_limit,
            rendered=prompt.text,
        )

    async def _answer(
        self,
        encode: Encode,
        request: inference_pb2.GenerateRequest | inference_pb2.ChatRequest,
        context: Context,
        *,
        continues: bool,
    ) -> AsyncGenerator[inference_pb2.GenerateResponse, None]:
        """The stream of one answer. `continues`: it goes on from the prompt's own text."""
        arrived_ms = clock_ms()
        options = request.options
        try:
            serving = self._stage.serving()
            check_queue(serving.capacity, serving.dispatcher.open_requests)
            prompt = await self._encode(serving, encode, request)
            seed = secrets.randbits(64)
            sampling = to_sampling(options, seed)
            sampling.check_vocabulary(serving.capacity.vocab_size)
            asked = options.max_tokens if options.HasField("max_tokens") else None
            check_queue(serving.capacity, serving.dispatcher.open_requests)  # others came while this one was encoded
            granted = admit(serving.capacity, prompt.token_ids, asked)
            tokenizer = serving.model.tokenizer
            generation = Generation(
                Sampler(sampling, prompt.token_ids),
                tokenizer.detokenizer(continues=continues),
                StopMatcher(options.stop),
                frozenset() if options.ignore_eos else tokenizer.eos_token_ids,
            )
            deadline_ms = self._deadline_ms(options, context, arrived_ms)
            job = Request(secrets.token_hex(8), prompt.token_ids, granted, deadline_ms)
        except RequestError as error:
            await abort(context, error)
        with _cancelled_after(deadline_ms + _READING_GRACE_MS), serving.dispatcher.submit(job, generation) as answer:
            yield inference_pb2.GenerateResponse(
                accepted=inference_pb2.Accepted(
                    request_id=job.id,
                    prompt_tokens=len(prompt.token_ids),
                    granted_max_tokens=granted,
                    context_limit=serving.capacity.context_limit,
                    seed=sampling.seed,
                )
            )
            while True:
                *pieces, last = await answer.next_events()
                if isinstance(last, Piece):
                    yield to_delta([*_pieces(pieces), last], tokenizer)
                    continue
                if isinstance(last, Failed):
                    await abort(context, last.error)
                if last.finish is Finish.DEADLINE and options.on_expiry == inference_pb2.FAIL:
                    await abort(context, _expired(last, arrived_ms))
                if pieces or last.text:
                    yield to_delta([*_pieces(pieces), Piece(last.text, None)], tokenizer)
                yield to_done(last, len(prompt.token_ids), arrived_ms)
                return

    def _deadline_ms(self, options: inference_pb2.Options, context: Context, arrived_ms: float) -> float:
        """The earlier of the budget's end and the call's own deadline, on the engine's clock."""
        remaining_s: float | None = context.time_remaining()  # the stubs forget that there may be none
        ends = [] if remaining_s is None else [clock_ms() + remaining_s * 1e3 - _DEADLINE_MARGIN_MS]
        if options.budget.HasField("total_ms"):
            ends.append(arrived_ms + options.budget.total_ms)
        return min(ends, default=arrived_ms + self._default_timeout_ms)

    async def _encode(self, serving: Serving, encode: Encode, request: ProtoRequest) -> Prompt:
        size_bytes = request.ByteSize()
        if size_bytes > self._max_message_bytes:
            raise RequestError(
                Reason.MESSAGE_TOO_LARGE,
                f"expected a request of at most {self._max_message_bytes} bytes, got {size_bytes}. Send less text.",
                numbers={"size_bytes": size_bytes, "max_message_bytes": self._max_message_bytes},
            )
        if size_bytes <= _INLINE_BYTES:
            return encode(serving)
        return await asyncio.to_thread(encode, serving)


@contextmanager
def _cancelled_after(end_ms: float) -> Iterator[None]:
    """Cancels the call at `end_ms` on the engine's clock: one whose caller never reads must not keep its place."""
    task = asyncio.current_task()
    assert task is not None
    timer = asyncio.get_running_loop().call_later(max(0.0, end_ms - clock_ms()) / 1e3, task.cancel)
    try:
        yield
    finally:
        timer.cancel()


def _pieces(events: Sequence[Event]) -> list[Piece]:
    return [event for event in events if isinstance(event, Piece)]


def _expired(finished: Finished, arrived_ms: float) -> RequestError:
    took_ms = clock_ms() - arrived_ms
    return RequestError(
        Reason.DEADLINE,
        f"the budget ended after {took_ms:.0f} ms with {finished.completion_tokens} tokens generated. "
        "Allow more time, ask for fewer tokens, or take partial answers (RETURN_PARTIAL).",
        numbers={"took_ms": round(took_ms, 1), "completion_tokens": finished.completion_tokens},
    )
