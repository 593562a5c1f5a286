"""What a request is granted, or why it is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bise_daemon.admission import Capacity, admit, check_queue
from bise_daemon.errors import Reason, RequestError
from bise_daemon.scheduler.scheduler import Limits, Scheduler

CAPACITY = Capacity(context_limit=32, vocab_size=100, most_open_requests=4)


@pytest.mark.parametrize(
    ("prompt_tokens", "asked", "granted"),
    [(1, 5, 5), (1, None, 31), (1, 31, 31), (1, 32, 31), (31, None, 1), (31, 9, 1), (10, 2**32 - 1, 22)],
)
def test_the_answer_gets_what_was_asked_or_what_is_left(prompt_tokens: int, asked: int | None, granted: int) -> None:
    assert admit(CAPACITY, [5] * prompt_tokens, asked) == granted


@pytest.mark.parametrize(
    ("prompt", "max_tokens", "reason", "numbers"),
    [
        ([], 5, Reason.EMPTY_PROMPT, {}),
        ([5, 100], 5, Reason.INVALID_TOKEN_ID, {"token_id": 100, "vocab_size": 100}),
        ([5], 0, Reason.INVALID_OPTION, {"field": "max_tokens"}),
        ([5] * 32, None, Reason.CONTEXT_OVERFLOW, {"prompt_tokens": 32, "context_limit": 32}),
    ],
)
def test_a_refusal_has_its_reason_and_numbers(
    prompt: list[int], max_tokens: int | None, reason: Reason, numbers: dict[str, object]
) -> None:
    with pytest.raises(RequestError) as refusal:
        admit(CAPACITY, prompt, max_tokens)
    assert refusal.value.reason is reason
    assert dict(refusal.value.numbers) == numbers
    assert refusal.value.retry_after_ms is None
    assert "expected" in refusal.value.message
    assert refusal.value.message.endswith(".")


def test_the_last_place_can_be_taken_and_no_more() -> None:
    check_queue(CAPACITY, 3)
    with pytest.raises(RequestError) as refusal:
        check_queue(CAPACITY, 4)
    assert refusal.value.reason is Reason.QUEUE_FULL
    assert dict(refusal.value.numbers) == {"open_requests": 4, "most_open_requests": 4}
    assert refusal.value.retry_after_ms is not None


@given(st.integers(1, 40), st.none() | st.integers(1, 60), st.integers(1, 40))
def test_what_is_granted_can_always_run(prompt_tokens: int, asked: int | None, context: int) -> None:
    scheduler = Scheduler(Limits(1, context, context, 8))
    capacity = Capacity(context, 100, 1)
    if prompt_tokens >= context:
        with pytest.raises(RequestError, match="CONTEXT_OVERFLOW"):
            admit(capacity, [5] * prompt_tokens, asked)
        return
    granted = admit(capacity, [5] * prompt_tokens, asked)
    assert scheduler.fits(prompt_tokens, granted)
    assert asked is None or granted <= asked
