"""The servicers of a FakeDaemon."""

# ruff: noqa: N802, ARG002 - the names and signatures are gRPC's

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from itertools import islice

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bise.errors import BiseError, ContextOverflow, DaemonError, DeadlineExceeded
from bise.testing.conversing import FakeConversations, Turn
from bise.testing.outcome import abort
from bise.testing.recording import record, record_chat
from bise.testing.script import Answer, Request, token_id, tokenize
from bise.testing.watched import Watched
from bise.types import FinishReason, Health, MemoryLevel, State, Status
from bise_proto.v1 import device_pb2, device_pb2_grpc, inference_pb2_grpc
from bise_proto.v1 import inference_pb2 as pb

_FINISH_REASONS = {
    FinishReason.STOP: pb.STOP,
    FinishReason.STOP_SEQUENCE: pb.STOP_SEQUENCE,
    FinishReason.LENGTH: pb.LENGTH,
    FinishReason.DEADLINE: pb.DEADLINE,
    FinishReason.TOOL_CALLS: pb.TOOL_CALLS,
    FinishReason.UNKNOWN: pb.FINISH_REASON_UNSPECIFIED,
}
_STATES = {
    State.LOADING: device_pb2.Status.LOADING,
    State.SERVING: device_pb2.Status.SERVING,
    State.DRAINING: device_pb2.Status.DRAINING,
    State.FAILED: device_pb2.Status.FAILED,
    State.UNKNOWN: device_pb2.Status.STATE_UNSPECIFIED,
}
_MEMORY_LEVELS = {
    MemoryLevel.NORMAL: device_pb2.Status.NORMAL,
    MemoryLevel.TIGHT: device_pb2.Status.TIGHT,
    MemoryLevel.CRITICAL: device_pb2.Status.CRITICAL,
    MemoryLevel.UNKNOWN: device_pb2.Status.MEMORY_LEVEL_UNSPECIFIED,
}
_HEALTH = {
    Health.SERVING: health_pb2.HealthCheckResponse.SERVING,
    Health.NOT_SERVING: health_pb2.HealthCheckResponse.NOT_SERVING,
    Health.UNKNOWN: health_pb2.HealthCheckResponse.UNKNOWN,
}
_FIXED_LOGPROB = -0.5
_DEFAULT_INTERVAL_MS = 1_000


class FakeDevice(device_pb2_grpc.DeviceServicer):
    """Tells the status it was given."""

    def __init__(self, status: Status) -> None:
        self.status = Watched(status)

    def GetStatus(self, request: device_pb2.GetStatusRequest, context: grpc.ServicerContext) -> device_pb2.Status:
        return _encode_status(self.status.get())

    def WatchStatus(
        self, request: device_pb2.WatchStatusRequest, context: grpc.ServicerContext
    ) -> Iterator[device_pb2.Status]:
        yield from map(
            _encode_status, self.status.follow(context, (request.interval_ms or _DEFAULT_INTERVAL_MS) / 1000)
        )


class FakeHealth(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """Tells the health it was given."""

    def __init__(self, health: Health) -> None:
        self.health = Watched(health)

    def Check(
        self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        return health_pb2.HealthCheckResponse(status=_HEALTH[self.health.get()])

    def Watch(
        self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext
    ) -> Iterator[health_pb2.HealthCheckResponse]:
        for health in self.health.follow(context):
            yield health_pb2.HealthCheckResponse(status=_HEALTH[health])


class FakeInference(inference_pb2_grpc.InferenceServicer):
    """Answers from a script, and records what it was asked."""

    def __init__(self, answers: Iterable[str | Answer | BiseError], device: FakeDevice) -> None:
        self.requests: list[Request] = []
        self._answers = iter(answers)
        self._device = device
        self._lock = threading.Lock()
        self._conversations = FakeConversations(self._turn)

    def Generate(self, request: pb.GenerateRequest, context: grpc.ServicerContext) -> Iterator[pb.GenerateResponse]:
        recorded = record("Generate", request.options, prompt=request.prompt, ids=tuple(request.token_ids.ids))
        prompt_tokens = len(request.token_ids.ids) or len(tokenize(request.prompt))
        yield from self._answer(recorded, request.options, prompt_tokens, context)

    def Chat(self, request: pb.ChatRequest, context: grpc.ServicerContext) -> Iterator[pb.GenerateResponse]:
        recorded = record_chat("Chat", request)
        yield from self._answer(recorded, request.options, len(tokenize(_render(request.messages))), context)

    def CountTokens(self, request: pb.CountTokensRequest, context: grpc.ServicerContext) -> pb.CountTokensResponse:
        text = _render(request.chat.messages) if request.HasField("chat") else request.prompt
        ids = [token_id(token) for token in tokenize(text)]
        return pb.CountTokensResponse(
            count=len(ids), token_ids=ids, context_limit=self._device.status.get().context_limit, rendered=text
        )

    def Converse(
        self, request_iterator: Iterator[pb.ConverseRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.ConverseResponse]:
        try:
            yield from self._conversations.converse(request_iterator)
        except BiseError as error:
            abort(context, error)

    def _turn(self, turn: Turn, request: pb.ChatRequest) -> Iterator[pb.GenerateResponse]:
        recorded = replace(record_chat("Converse", request), heard=turn.heard, cancelled=turn.interrupted)
        answer, events = self._begin(recorded, request.options, len(tokenize(_render(request.messages))))
        turn.gate = answer.gate
        try:
            yield from events
        finally:
            recorded.finished.set()

    def _answer(
        self, request: Request, options: pb.Options, prompt_tokens: int, context: grpc.ServicerContext
    ) -> Iterator[pb.GenerateResponse]:
        answer, events = self._begin(request, options, prompt_tokens)

        def leave() -> None:
            # gRPC calls this however the call ends; only a call that is not through was given up.
            if not request.finished.is_set():
                request.cancelled.set()
                request.finished.set()
            answer.gate.wake()

        context.add_callback(leave)
        try:
            yield from events
        except BiseError as error:
            request.finished.set()
            abort(context, error)
        if not request.cancelled.is_set():
            request.finished.set()

    def _begin(
        self, request: Request, options: pb.Options, prompt_tokens: int
    ) -> tuple[Answer, Iterator[pb.GenerateResponse]]:
        """Takes the next answer of the script; an error of it is raised by its events."""
        with self._lock:
            self.requests.append(request)
            number = len(self.requests)
            scripted = next(self._answers, None)
        if scripted is None:
            scripted = DaemonError(
                f"the FakeDaemon's script has {number - 1} answers, and this is request {number}: add an answer",
                reason="ENGINE_FAILED",
            )
        if isinstance(scripted, BiseError):
            return Answer(()), _raising(scripted)
        answer = scripted if isinstance(scripted, Answer) else Answer(scripted)
        return answer, self._play(answer, request, options, number, prompt_tokens)

    def _play(
        self, answer: Answer, request: Request, options: pb.Options, number: int, prompt_tokens: int
    ) -> Iterator[pb.GenerateResponse]:
        started = time.monotonic()
        until = started + options.budget.total_ms / 1000 if options.budget.HasField("total_ms") else None
        context_limit = self._device.status.get().context_limit
        prompt_tokens -= answer.dropped_tokens
        room = context_limit - prompt_tokens
        if room < 1:
            raise ContextOverflow(
                f"prompt: expected fewer than {context_limit} tokens, got {prompt_tokens}. Shorten it.",
                reason="CONTEXT_OVERFLOW",
                numbers={"prompt_tokens": prompt_tokens, "context_limit": context_limit},
            )
        asked = options.max_tokens if options.HasField("max_tokens") else room
        granted = min(asked, room, room if answer.most_granted_tokens is None else answer.most_granted_tokens)
        yield pb.GenerateResponse(
            accepted=pb.Accepted(
                request_id=f"fake-{number}",
                prompt_tokens=prompt_tokens,
                granted_max_tokens=granted,
                context_limit=context_limit,
                seed=options.sampling.seed,
                predicted_first_token_ms=answer.predicted_first_token_ms,
                predicted_total_ms=answer.predicted_total_ms,
                cached_tokens=answer.cached_tokens,
                dropped_messages=answer.dropped_messages,
                dropped_tokens=answer.dropped_tokens,
            )
        )
        reason, made, first_token_ms = answer.finish_reason, 0, 0.0
        for token in islice(answer.tokens, granted):
            if not answer.gate.take(request.cancelled, until):
                if request.cancelled.is_set():
                    return
                if options.on_expiry == pb.FAIL:
                    raise DeadlineExceeded(
                        f"expected an answer within {options.budget.total_ms} ms, got {made} tokens",
                        reason="DEADLINE",
                        numbers={"total_ms": options.budget.total_ms, "completion_tokens": made},
                    )
                reason = FinishReason.DEADLINE
                break
            made += 1
            first_token_ms = first_token_ms or (time.monotonic() - started) * 1000
            yield pb.GenerateResponse(delta=_delta(token, options))
        else:
            if answer.error is not None:
                raise answer.error
            if made < len(answer.tokens):
                reason = FinishReason.LENGTH
            else:
                yield from _calls(answer)
                if answer.tool_calls and reason is FinishReason.STOP:
                    reason = FinishReason.TOOL_CALLS
        total_ms = (time.monotonic() - started) * 1000
        yield pb.GenerateResponse(
            done=pb.Done(
                finish_reason=_FINISH_REASONS[reason],
                malformed_tool_calls=[
                    pb.MalformedToolCall(text=each.text, problem=each.problem) for each in answer.malformed_tool_calls
                ],
                usage=pb.Usage(
                    prompt_tokens=prompt_tokens,
                    completion_tokens=made,
                    cached_tokens=answer.cached_tokens,
                    draft_tokens=answer.draft_tokens,
                    accepted_draft_tokens=answer.accepted_draft_tokens,
                    forced_tokens=answer.forced_tokens,
                ),
                closed_early=answer.closed_early,
                timings=pb.Timings(
                    first_token_ms=first_token_ms,
                    total_ms=total_ms,
                    tokens_per_second=made / total_ms * 1000 if total_ms else 0.0,
                ),
            )
        )


def _raising(error: BiseError) -> Iterator[pb.GenerateResponse]:
    raise error
    yield


def _delta(token: str, options: pb.Options) -> pb.Delta:
    chosen = pb.TokenLogprob(token_id=token_id(token), token=token.encode(), logprob=_FIXED_LOGPROB)
    top = [pb.TokenLogprob(token_id=rank, logprob=_FIXED_LOGPROB - rank) for rank in range(options.top_logprobs)]
    chosen.top.extend(top)
    return pb.Delta(text=token, token_ids=[chosen.token_id], logprobs=[chosen] if options.logprobs else [])


def _calls(answer: Answer) -> Iterator[pb.GenerateResponse]:
    for index, call in enumerate(answer.tool_calls):
        middle = len(call.arguments) // 2
        for piece in (
            pb.ToolCallDelta(index=index, id=call.id, name=call.name),
            pb.ToolCallDelta(index=index, arguments=call.arguments[:middle]),
            pb.ToolCallDelta(index=index, arguments=call.arguments[middle:]),
        ):
            yield pb.GenerateResponse(delta=pb.Delta(tool_calls=[piece]))


def _render(messages: Iterable[pb.Message]) -> str:
    return "".join(f"{message.role}: {message.content}\n" for message in messages)


def _encode_status(status: Status) -> device_pb2.Status:
    enums = {"state": _STATES[status.state], "memory_level": _MEMORY_LEVELS[status.memory_level]}
    return device_pb2.Status(**(asdict(status) | enums))
