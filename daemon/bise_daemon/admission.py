"""Admission: what a request is granted, or why it is refused, decided at once from plain numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bise_daemon.errors import Reason, RequestError


@dataclass(frozen=True, slots=True)
class Capacity:
    """What can be promised now.

    Attributes:
        context_limit: tokens one request may hold, prompt and answer together.
        vocab_size: of the model.
        most_open_requests: served and queued together.
    """

    context_limit: int
    vocab_size: int
    most_open_requests: int


# A queue that is full empties at the pace of whole answers, not of steps.
_RETRY_QUEUE_MS = 1000


def check_queue(capacity: Capacity, open_requests: int) -> None:
    """Refuses what would wait too long; asked before a prompt is worth tokenizing.

    Args:
        open_requests: admitted before and not yet ended.

    Raises:
        RequestError: QUEUE_FULL.
    """
    if open_requests >= capacity.most_open_requests:
        raise RequestError(
            Reason.QUEUE_FULL,
            f"{open_requests} requests are open; expected fewer than {capacity.most_open_requests}. Try again shortly.",
            numbers={"open_requests": open_requests, "most_open_requests": capacity.most_open_requests},
            retry_after_ms=_RETRY_QUEUE_MS,
        )


def admit(capacity: Capacity, prompt: Sequence[int], max_tokens: int | None) -> int:
    """Checks a request against what the device can hold.

    Args:
        prompt: token ids.
        max_tokens: as asked for; None is as many as fit.

    Returns:
        The tokens granted for the answer: those asked for, or what the context limit leaves.

    Raises:
        RequestError: EMPTY_PROMPT, INVALID_TOKEN_ID, INVALID_OPTION or CONTEXT_OVERFLOW.
    """
    if not prompt:
        raise RequestError(Reason.EMPTY_PROMPT, "expected at least one prompt token, got none. Send some text.")
    if (highest := max(prompt)) >= capacity.vocab_size:
        raise RequestError(
            Reason.INVALID_TOKEN_ID,
            f"token_ids: expected ids below {capacity.vocab_size}, got {highest}. "
            "Tokenize with this model's own tokenizer.",
            numbers={"token_id": highest, "vocab_size": capacity.vocab_size},
        )
    if max_tokens == 0:
        raise RequestError(
            Reason.INVALID_OPTION,
            "max_tokens: expected at least 1, got 0. Use CountTokens to measure a prompt.",
            numbers={"field": "max_tokens"},
        )
    room = capacity.context_limit - len(prompt)
    if room < 1:
        raise RequestError(
            Reason.CONTEXT_OVERFLOW,
            f"the prompt has {len(prompt)} tokens; expected at most {capacity.context_limit - 1}, "
            f"to leave one for the answer within the context limit of {capacity.context_limit}. Shorten the prompt.",
            numbers={"prompt_tokens": len(prompt), "context_limit": capacity.context_limit},
        )
    return room if max_tokens is None else min(max_tokens, room)
