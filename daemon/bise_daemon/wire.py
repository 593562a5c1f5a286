"""Between the protos and the daemon's own values; the only place that knows both shapes of a request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from bise_daemon.admission import Ask
from bise_daemon.chat.calls.call import CallDelta, MalformedCall
from bise_daemon.chat.message import Prompt
from bise_daemon.chat.tokenizer import Tokenizer
from bise_daemon.engine.events import Finish, Finished
from bise_daemon.engine.generation import Piece
from bise_daemon.engine.sampling import Choice, SamplingParams
from bise_daemon.errors import Reason, RequestError
from bise_daemon.grammar.format import Format, Kind
from bise_daemon.reception import Admitted
from bise_daemon.scheduler.request import Priority, Request
from bise_proto.v1 import inference_pb2

Context = grpc.aio.ServicerContext[Any, Any]

ERROR_DOMAIN = "bise"

# Status and details travel in headers, of which gRPC takes 8 KiB: the message twice, once with three bytes for one.
_MAX_MESSAGE_BYTES = 1000

_STATUS_CODES = {
    Reason.CONTEXT_OVERFLOW: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.EMPTY_PROMPT: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.INVALID_TOKEN_ID: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.INVALID_OPTION: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.INVALID_MESSAGE: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.MESSAGE_TOO_LARGE: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.CHAT_UNSUPPORTED: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.TOOLS_UNSUPPORTED: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.QUEUE_FULL: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.BUDGET: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.MEMORY: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.DRAINING: grpc.StatusCode.UNAVAILABLE,
    Reason.LOADING: grpc.StatusCode.UNAVAILABLE,
    Reason.ENGINE_FAILED: grpc.StatusCode.INTERNAL,
    Reason.DEADLINE: grpc.StatusCode.DEADLINE_EXCEEDED,
    Reason.CONVERSATION_LOST: grpc.StatusCode.NOT_FOUND,
    Reason.CONVERSATION_MOVED: grpc.StatusCode.ABORTED,
}
_PRIORITIES = {
    inference_pb2.CRITICAL: Priority.CRITICAL,
    inference_pb2.INTERACTIVE: Priority.INTERACTIVE,
    inference_pb2.BACKGROUND: Priority.BACKGROUND,
}
_FINISH_REASONS = {
    Finish.EOS: inference_pb2.STOP,
    Finish.STOP_SEQUENCE: inference_pb2.STOP_SEQUENCE,
    Finish.LENGTH: inference_pb2.LENGTH,
    Finish.DEADLINE: inference_pb2.DEADLINE,
    Finish.TOOL_CALLS: inference_pb2.TOOL_CALLS,
}


async def abort(context: Context, error: RequestError) -> NoReturn:
    """Ends a call with the error's status and details."""
    await context.abort_with_status(rpc_status.to_status(to_status(error)))  # type: ignore[attr-defined]  # stubs lag
    raise AssertionError("abort_with_status raises")


def to_status(error: RequestError) -> status_pb2.Status:
    """The error as `google.rpc.Status`, with `ErrorInfo` and, where trying again can help, `RetryInfo`."""
    details = [
        error_details_pb2.ErrorInfo(
            reason=error.reason.value,
            domain=ERROR_DOMAIN,
            metadata={name: str(value) for name, value in error.numbers.items()},
        )
    ]
    if error.retry_after_ms is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(error.retry_after_ms)
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    packed = [any_pb2.Any() for _ in details]
    for each, detail in zip(packed, details, strict=True):
        each.Pack(detail)
    return status_pb2.Status(
        code=_STATUS_CODES[error.reason].value[0], message=_shortened(error.message), details=packed
    )


def _shortened(message: str) -> str:
    encoded = message.encode("utf-8", errors="replace")
    if len(encoded) <= _MAX_MESSAGE_BYTES:
        return encoded.decode("utf-8")
    return encoded[:_MAX_MESSAGE_BYTES].decode("utf-8", errors="ignore") + "…"


def to_sampling(options: inference_pb2.Options, seed: int) -> SamplingParams:
    """How tokens are chosen; `seed` stands in where the request has none.

    Raises:
        RequestError: INVALID_OPTION.
    """
    sampling = options.sampling
    return SamplingParams(
        temperature=sampling.temperature,
        top_p=sampling.top_p if sampling.HasField("top_p") else 1.0,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        repetition_penalty=sampling.repetition_penalty if sampling.HasField("repetition_penalty") else 1.0,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        seed=sampling.seed if sampling.HasField("seed") else seed,
        logit_bias=dict(sampling.logit_bias),
        logprobs=options.logprobs,
        top_logprobs=options.top_logprobs,
    )


def to_format(options: inference_pb2.Options) -> Format | None:
    """What the answer has to be; None is anything.

    Raises:
        RequestError: INVALID_OPTION, also for what does not go with a format.
    """
    kind = options.format.WhichOneof("format")
    if kind is None:
        return None
    if options.stop or options.ignore_eos:
        field = "stop" if options.stop else "ignore_eos"
        raise RequestError(
            Reason.INVALID_OPTION,
            f"{field}: expected none with a format, which says where the answer ends, got {field}. Leave one out.",
            numbers={"field": field},
        )
    if kind == "choices":
        return Format.of_choices(options.format.choices.texts)
    return Format(Kind(kind), "" if kind == "json_object" else getattr(options.format, kind))


def to_ask(
    options: inference_pb2.Options,
    prompt_tokens: int,
    arrived_ms: float,
    deadline_ms: float,
    shortest_tokens: int = 1,
) -> Ask:
    """What the options ask for.

    Args:
        arrived_ms, deadline_ms: on the engine's clock; the deadline is the end of patience, stated or not.
        shortest_tokens: of an answer in its format.

    Raises:
        RequestError: INVALID_OPTION.
    """
    budget = options.budget
    if options.priority not in _PRIORITIES:
        raise RequestError(
            Reason.INVALID_OPTION,
            f"priority: expected one of {', '.join(inference_pb2.Priority.keys())}, got {options.priority}.",
            numbers={"field": "priority"},
        )
    return Ask(
        prompt_tokens,
        cached_tokens=0,
        max_tokens=options.max_tokens if options.HasField("max_tokens") else None,
        least_tokens=options.min_granted_tokens if options.HasField("min_granted_tokens") else None,
        whole=options.on_expiry == inference_pb2.FAIL,
        priority=_PRIORITIES[options.priority],
        arrived_ms=arrived_ms,
        deadline_ms=deadline_ms,
        total_ms=budget.total_ms if budget.HasField("total_ms") else None,
        first_token_ms=budget.first_token_ms if budget.HasField("first_token_ms") else None,
        per_token_ms=budget.per_token_ms if budget.HasField("per_token_ms") else None,
        shortest_tokens=shortest_tokens,
    )


def to_accepted(
    job: Request, admitted: Admitted, prompt: Prompt, context_limit: int, seed: int | None
) -> inference_pb2.GenerateResponse:
    """The promise an answer begins with."""
    grant = admitted.told
    return inference_pb2.GenerateResponse(
        accepted=inference_pb2.Accepted(
            request_id=job.id,
            prompt_tokens=len(job.prompt),
            granted_max_tokens=grant.max_tokens,
            context_limit=context_limit,
            seed=seed,
            predicted_first_token_ms=grant.predicted_first_token_ms,
            predicted_total_ms=grant.predicted_total_ms,
            cached_tokens=admitted.ask.cached_tokens,
            dropped_messages=prompt.dropped_messages,
            dropped_tokens=prompt.dropped_tokens,
        )
    )


def to_delta(pieces: Sequence[Piece], tokenizer: Tokenizer) -> inference_pb2.GenerateResponse:
    """Some pieces of an answer as one message."""
    choices = [piece.choice for piece in pieces if piece.choice is not None]
    calls = [call for piece in pieces for call in piece.calls if isinstance(call, CallDelta)]
    return inference_pb2.GenerateResponse(
        delta=inference_pb2.Delta(
            text="".join(piece.text for piece in pieces),
            token_ids=[choice.token_id for choice in choices],
            logprobs=[_logprob(choice, tokenizer) for choice in choices if choice.logprob is not None],
            tool_calls=[
                inference_pb2.ToolCallDelta(index=call.index, id=call.id, name=call.name, arguments=call.arguments)
                for call in calls
            ],
        )
    )


def to_done(
    finished: Finished, malformed: Sequence[MalformedCall], prompt_tokens: int, arrived_ms: float
) -> inference_pb2.GenerateResponse:
    """The last message of an answer; times count from `arrived_ms`, on the engine's clock."""
    times = finished.times
    ended = times.ended if times.ended is not None else arrived_ms
    started = times.started if times.started is not None else ended
    first = times.first_token if times.first_token is not None else ended
    decoding_s = (ended - first) / 1e3
    return inference_pb2.GenerateResponse(
        done=inference_pb2.Done(
            finish_reason=_FINISH_REASONS[finished.finish],
            malformed_tool_calls=[
                inference_pb2.MalformedToolCall(text=call.text, problem=call.problem, index=call.index)
                for call in malformed
            ],
            usage=inference_pb2.Usage(
                prompt_tokens=prompt_tokens,
                completion_tokens=finished.completion_tokens,
                cached_tokens=finished.cached_tokens,
                draft_tokens=finished.drafts.guessed,
                accepted_draft_tokens=finished.drafts.confirmed,
                forced_tokens=finished.forced_tokens,
            ),
            closed_early=finished.closed_early,
            timings=inference_pb2.Timings(
                queue_ms=started - arrived_ms,
                prefill_ms=first - started,
                first_token_ms=first - arrived_ms,
                total_ms=ended - arrived_ms,
                tokens_per_second=max(0, finished.completion_tokens - 1) / decoding_s if decoding_s > 0 else 0.0,
            ),
        )
    )


def _logprob(choice: Choice, tokenizer: Tokenizer) -> inference_pb2.TokenLogprob:
    def entry(token_id: int, logprob: float) -> inference_pb2.TokenLogprob:
        return inference_pb2.TokenLogprob(token_id=token_id, token=tokenizer.token_bytes(token_id), logprob=logprob)

    assert choice.logprob is not None
    found = entry(choice.token_id, choice.logprob)
    found.top.extend(entry(token_id, logprob) for token_id, logprob in choice.top)
    return found
