"""Answers to requests, whichever door they came in by: requests become jobs for the engine, its events responses."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace

from google.protobuf import message as protobuf

from bise_daemon import request_log
from bise_daemon.admission import check_queue
from bise_daemon.chat.calls.call import MalformedCall, NoCalls
from bise_daemon.chat.conversation import Conversation
from bise_daemon.chat.message import Message, Prompt
from bise_daemon.chat.truncation import truncate_oldest
from bise_daemon.config.live import LiveConfig
from bise_daemon.deadline import cancelled_after, deadline_ms
from bise_daemon.engine.detokenize import StopMatcher
from bise_daemon.engine.dispatcher import Answer
from bise_daemon.engine.events import Event, Failed, Finish, Finished
from bise_daemon.engine.generation import Generation, Piece
from bise_daemon.engine.loop import clock_ms
from bise_daemon.engine.sampling import Sampler, SamplingParams
from bise_daemon.errors import Reason, RequestError
from bise_daemon.grammar.constraint import find_constraint
from bise_daemon.phrases.answer import PhrasedAnswer
from bise_daemon.phrases.chunking import to_phraser
from bise_daemon.serving import Serving, Stage
from bise_daemon.telemetry.telemetry import NO_TELEMETRY, Telemetry
from bise_daemon.wire import to_accepted, to_ask, to_delta, to_done, to_format, to_sampling
from bise_daemon.wire_chat import to_conversation
from bise_proto.v1 import inference_pb2

Encode = Callable[[Serving], Prompt]

ProtoRequest = inference_pb2.GenerateRequest | inference_pb2.ChatRequest | inference_pb2.CountTokensRequest
Responses = AsyncGenerator[inference_pb2.GenerateResponse, None]

# Tokenizing this much takes about a millisecond; more of it must not hold up other calls.
_INLINE_BYTES = 4096
# An answer that has ended must be read within this.
_READING_GRACE_MS = 5000.0


class Answering:
    """What every door calls. Both streams are an Accepted, any number of Delta, one Done; closing one early aborts its
    request within a step.
    """

    def __init__(self, stage: Stage, config: LiveConfig, telemetry: Telemetry = NO_TELEMETRY) -> None:
        self._stage = stage
        self._config = config
        self._telemetry = telemetry

    def generate(
        self,
        request: inference_pb2.GenerateRequest,
        remaining_ms: float | None = None,
        traceparent: str | None = None,
    ) -> Responses:
        """Continues a prompt.

        Args:
            remaining_ms: until the call's own deadline; None where it has none.
            traceparent: the caller's span, in W3C's form; None where it tells none.

        Raises:
            RequestError: a refusal before the first response, a failure after it.
        """

        def encode(serving: Serving) -> Prompt:
            if request.WhichOneof("input") == "token_ids":
                return Prompt(list(request.token_ids.ids), "")
            return Prompt(serving.model.tokenizer.encode(request.prompt), request.prompt)

        responses = self._answer(encode, request, remaining_ms, continues=True)
        return self._watched("text_completion", request, responses, traceparent)

    def chat(
        self, request: inference_pb2.ChatRequest, remaining_ms: float | None = None, traceparent: str | None = None
    ) -> Responses:
        """Answers messages; see `generate`."""
        continues = request.continue_final_message
        responses = self._answer(
            lambda serving: _chat_prompt(serving, request), request, remaining_ms, continues=continues
        )
        return self._watched("chat", request, responses, traceparent)

    async def prepare(self, request: inference_pb2.ChatRequest) -> Answer:
        """Has the prompt of an answer computed, for whoever asks for that answer soon; it has no text.

        It is admitted as the answer would be, with no budget, and only while a slot is free: so it breaks no promise,
        and nobody waits behind it. The caller must close what it gets; that leaves what is computed.

        Raises:
            RequestError: what is wrong with the request, or no room for this now.
        """
        arrived_ms = clock_ms()
        serving = self._stage.serving()
        reception = serving.reception
        capacity = reception.capacity
        check_queue(replace(capacity, most_open_requests=capacity.limits.slots), serving.dispatcher.open_requests)
        prompt = await self._encode(serving, lambda serving: _chat_prompt(serving, request), request)
        ask = to_ask(
            inference_pb2.Options(priority=request.options.priority, max_tokens=1),
            len(prompt.token_ids),
            arrived_ms,
            arrived_ms + self._default_timeout_ms,
        )
        job = reception.admit(prompt.token_ids, ask).request(secrets.token_hex(8), prompt.token_ids)
        job.max_tokens = 0
        nothing = Generation(
            Sampler(SamplingParams(), ()), serving.model.tokenizer.detokenizer(), StopMatcher(()), frozenset()
        )
        return serving.dispatcher.submit(job, nothing)

    async def count_tokens(
        self, request: inference_pb2.CountTokensRequest, remaining_ms: float | None = None
    ) -> inference_pb2.CountTokensResponse:
        """Tokenizes only.

        Raises:
            RequestError: what is wrong with the input.
        """

        def encode(serving: Serving) -> Prompt:
            if request.WhichOneof("input") == "chat":
                return serving.model.chat.encode(to_conversation(request.chat))
            return Prompt(serving.model.tokenizer.encode(request.prompt), request.prompt)

        serving = await self._served(remaining_ms)
        prompt = await self._encode(serving, encode, request)
        return inference_pb2.CountTokensResponse(
            count=len(prompt.token_ids),
            token_ids=prompt.token_ids,
            context_limit=serving.reception.capacity.context_limit,
            rendered=prompt.text,
        )

    async def _answer(
        self,
        encode: Encode,
        request: inference_pb2.GenerateRequest | inference_pb2.ChatRequest,
        remaining_ms: float | None,
        *,
        continues: bool,
    ) -> Responses:
        """The stream of one answer. `continues`: it goes on from the prompt's own text."""
        arrived_ms = clock_ms()
        options = request.options
        serving = await self._served(remaining_ms)
        reception, tokenizer = serving.reception, serving.model.tokenizer
        try:
            reception.check_queue()
            prompt = await self._encode(serving, encode, request)
            sampling = to_sampling(options, secrets.randbits(64))
            sampling.check_vocabulary(reception.capacity.vocab_size)
            phraser = to_phraser(options.chunking)
            stops = StopMatcher(options.stop)  # what is wrong is told before what there is no time for
            form = to_format(options)
            ends_ms = deadline_ms(
                options.budget, remaining_ms, arrived_ms, reception.longest_step_ms, self._default_timeout_ms
            )
            within_s = (ends_ms - clock_ms()) / 1e3
            constraint = await find_constraint(serving.formats, form, prompt.grammar, within_s)
            shortest_tokens = 1 if constraint is None else constraint.shortest_tokens
            admitted = reception.admit(
                prompt.token_ids, to_ask(options, len(prompt.token_ids), arrived_ms, ends_ms, shortest_tokens)
            )
            generation = Generation(
                Sampler(sampling, prompt.token_ids),
                # A format says itself whether the answer begins with a space.
                tokenizer.detokenizer(continues=continues or form is not None),
                stops,
                frozenset() if options.ignore_eos else tokenizer.eos_token_ids,
                None if constraint is None else constraint.guide(admitted.grant.max_tokens),
                prompt.calls if form is None else NoCalls(),
            )
        except RequestError as error:
            reception.refused(error)
            raise
        job = admitted.request(secrets.token_hex(8), prompt.token_ids)
        with cancelled_after(ends_ms + _READING_GRACE_MS), serving.dispatcher.submit(job, generation) as answer:
            malformed: list[MalformedCall] = []
            yield to_accepted(job, admitted, prompt, reception.capacity.context_limit, sampling.seed)
            events = answer if phraser is None else PhrasedAnswer(answer, phraser, clock_ms)
            while True:
                *pieces, last = await events.next_events()
                if isinstance(last, Piece):
                    malformed += _malformed([*_pieces(pieces), last])
                    yield to_delta([*_pieces(pieces), last], tokenizer)
                    continue
                if isinstance(last, Failed):
                    raise last.error
                reception.settle(admitted, last)
                if last.finish is Finish.DEADLINE and options.on_expiry == inference_pb2.FAIL:
                    raise _expired(last, arrived_ms)
                rest = [*_pieces(pieces), Piece(last.text, None, last.calls)]
                malformed += _malformed(rest)
                if pieces or last.text or last.calls:
                    yield to_delta(rest, tokenizer)
                yield to_done(last, malformed, len(prompt.token_ids), arrived_ms)
                return

    def _watched(
        self,
        operation: str,
        request: inference_pb2.GenerateRequest | inference_pb2.ChatRequest,
        responses: Responses,
        traceparent: str | None,
    ) -> Responses:
        """The same responses, seen by all who want to know of them."""
        log_prompts = self._config.now.log_prompts
        if log_prompts or request_log.logger.isEnabledFor(logging.DEBUG):
            responses = request_log.logged(operation, request, responses, prompts=log_prompts)
        return self._telemetry.watched(operation, responses, traceparent)

    @property
    def _default_timeout_ms(self) -> float:
        return self._config.now.default_timeout_s * 1e3

    async def _served(self, remaining_ms: float | None) -> Serving:
        patience_ms = self._default_timeout_ms if remaining_ms is None else remaining_ms
        return await self._stage.served(patience_ms / 1e3)

    async def _encode(self, serving: Serving, encode: Encode, request: ProtoRequest) -> Prompt:
        self.check_size(request)
        if request.ByteSize() <= _INLINE_BYTES:
            return encode(serving)
        return await asyncio.to_thread(encode, serving)

    def check_size(self, request: protobuf.Message) -> None:
        """Refuses what is too large, before anything is done with it.

        Raises:
            RequestError: MESSAGE_TOO_LARGE.
        """
        size_bytes, most_bytes = request.ByteSize(), self._config.now.max_message_bytes
        if size_bytes > most_bytes:
            raise RequestError(
                Reason.MESSAGE_TOO_LARGE,
                f"expected a request of at most {most_bytes} bytes, got {size_bytes}. Send less text.",
                numbers={"size_bytes": size_bytes, "max_message_bytes": most_bytes},
            )


def _chat_prompt(serving: Serving, request: inference_pb2.ChatRequest) -> Prompt:
    conversation = to_conversation(request)
    if request.options.on_overflow == inference_pb2.TRUNCATE_OLDEST:
        return _shortened(serving, conversation, request.options.min_granted_tokens or 1)
    return serving.model.chat.encode(conversation)


def _shortened(serving: Serving, conversation: Conversation, least_tokens: int) -> Prompt:
    """The prompt of a chat without its oldest turns, as few of them as leave room for the answer."""

    def encode(messages: Sequence[Message]) -> Prompt:
        return serving.model.chat.encode(replace(conversation, messages=messages))

    most_tokens = serving.reception.capacity.context_limit - least_tokens
    left = truncate_oldest(conversation.messages, lambda some: len(encode(some).token_ids), most_tokens)
    return replace(encode(left.messages), dropped_messages=left.dropped_messages, dropped_tokens=left.dropped_tokens)


def _pieces(events: Sequence[Event]) -> list[Piece]:
    return [event for event in events if isinstance(event, Piece)]


def _malformed(pieces: Sequence[Piece]) -> list[MalformedCall]:
    return [call for piece in pieces for call in piece.calls if isinstance(call, MalformedCall)]


def _expired(finished: Finished, arrived_ms: float) -> RequestError:
    took_ms = clock_ms() - arrived_ms
    return RequestError(
        Reason.DEADLINE,
        f"the budget ended after {took_ms:.0f} ms with {finished.completion_tokens} tokens generated. "
        "Allow more time, ask for fewer tokens, or take partial answers (RETURN_PARTIAL).",
        numbers={"took_ms": round(took_ms, 1), "completion_tokens": finished.completion_tokens},
    )
