"""Between the SDK's values and the messages on the wire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields

from grpc_health.v1 import health_pb2

from bise.errors import InvalidRequest
from bise.types import (
    Accepted,
    Conversation,
    Delta,
    FinishReason,
    Health,
    Message,
    State,
    Status,
    Timings,
    TokenCount,
    TokenLogprob,
    Usage,
)
from bise_proto.v1 import device_pb2
from bise_proto.v1 import inference_pb2 as pb

_FINISH_REASONS = {
    pb.STOP: FinishReason.STOP,
    pb.STOP_SEQUENCE: FinishReason.STOP_SEQUENCE,
    pb.LENGTH: FinishReason.LENGTH,
    pb.DEADLINE: FinishReason.DEADLINE,
}
_STATES = {
    device_pb2.Status.LOADING: State.LOADING,
    device_pb2.Status.SERVING: State.SERVING,
    device_pb2.Status.DRAINING: State.DRAINING,
    device_pb2.Status.FAILED: State.FAILED,
}
_HEALTH = {
    health_pb2.HealthCheckResponse.SERVING: Health.SERVING,
    health_pb2.HealthCheckResponse.NOT_SERVING: Health.NOT_SERVING,
}
_STATUS_NUMBERS = [field.name for field in fields(Status) if field.name != "state"]


def encode_messages(conversation: Conversation) -> list[pb.Message]:
    """The messages on the wire; a plain text is one user message.

    Raises:
        InvalidRequest: a message that is not a role and a content of text.
    """
    if isinstance(conversation, str):
        conversation = [Message("user", conversation)]
    return [_encode_message(index, message) for index, message in enumerate(conversation)]


def _encode_message(index: int, message: Message | Mapping[str, str]) -> pb.Message:
    try:
        if isinstance(message, Mapping):
            message = Message(**message)
        return pb.Message(role=message.role, content=message.content)
    except (TypeError, ValueError, AttributeError):
        raise InvalidRequest(
            f'messages[{index}]: expected {{"role": text, "content": text}} or a bise.Message, got {message!r:.200}',
            reason="INVALID_MESSAGE",
            numbers={"field": f"messages[{index}]"},
        ) from None


def encode_prompt(prompt: str | Sequence[int], options: pb.Options) -> pb.GenerateRequest:
    """A request for a raw prompt or for token ids.

    Raises:
        InvalidRequest: the text has no UTF-8 form, or an id is no whole number of 0 to 2³² - 1.
    """
    try:
        if isinstance(prompt, str):
            return pb.GenerateRequest(prompt=prompt, options=options)
        return pb.GenerateRequest(token_ids=pb.TokenIds(ids=prompt), options=options)
    except (TypeError, ValueError, OverflowError):
        raise InvalidRequest(
            f"prompt: expected a text in Unicode, or token ids of 0 to 2³² - 1, got {prompt!r:.200}",
            reason="INVALID_OPTION" if isinstance(prompt, str) else "INVALID_TOKEN_ID",
            numbers={"field": "prompt"},
        ) from None


def decode_accepted(accepted: pb.Accepted) -> Accepted:
    """What the daemon promised."""
    return Accepted(
        accepted.request_id,
        accepted.prompt_tokens,
        accepted.granted_max_tokens,
        accepted.context_limit,
        accepted.seed,
    )


def decode_delta(delta: pb.Delta) -> Delta:
    """What the answer grew by."""
    return Delta(delta.text, tuple(delta.token_ids), tuple(map(_decode_logprob, delta.logprobs)))


def _decode_logprob(logprob: pb.TokenLogprob) -> TokenLogprob:
    return TokenLogprob(logprob.token_id, logprob.token, logprob.logprob, tuple(map(_decode_logprob, logprob.top)))


def decode_done(done: pb.Done) -> tuple[FinishReason, Usage, Timings]:
    """Why the answer ended, and what it took."""
    timings = done.timings
    return (
        _FINISH_REASONS.get(done.finish_reason, FinishReason.UNKNOWN),
        Usage(done.usage.prompt_tokens, done.usage.completion_tokens),
        Timings(
            timings.queue_ms,
            timings.prefill_ms,
            timings.first_token_ms,
            timings.total_ms,
            timings.tokens_per_second,
        ),
    )


def decode_count(count: pb.CountTokensResponse) -> TokenCount:
    """How an input is tokenized."""
    return TokenCount(count.count, tuple(count.token_ids), count.context_limit, count.rendered)


def decode_status(status: device_pb2.Status) -> Status:
    """The daemon's view of itself."""
    numbers = {name: getattr(status, name) for name in _STATUS_NUMBERS}
    return Status(state=_STATES.get(status.state, State.UNKNOWN), **numbers)


def decode_health(response: health_pb2.HealthCheckResponse) -> Health:
    """The answer to a health check."""
    return _HEALTH.get(response.status, Health.UNKNOWN)
