"""What callers state is promised or refused, and who comes first comes first, on the real model."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bise import Client, ContextOverflow, FinishReason, OverBudget
from e2e.conftest import PATIENCE_S, Plain, status_when
from e2e.prompts import STORY, SYSTEM
from running import running

pytestmark = [pytest.mark.slow, pytest.mark.real_model, pytest.mark.timeout(400)]

QUESTION = "Write a very long story about the wind."


@pytest.fixture(scope="module")
def lone(smollm2_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Of a daemon with one slot, that keeps nothing."""
    settings = {"context": 2048, "slots": 1, "prefix_slots": 0, "prefix_tokens": 0, "draft_tokens": 0}
    folder = tmp_path_factory.mktemp("lone")
    with running(smollm2_bundle, folder, **settings) as daemon, Client(daemon.address) as client:
        client.wait_until_serving(timeout=PATIENCE_S)
        yield client


def test_a_total_shrinks_the_answer_to_what_there_is_time_for(lone: Client) -> None:
    lone.chat(QUESTION, max_tokens=200, ignore_eos=True)  # steps are as fast now as they are just now
    whole = lone.chat(QUESTION, max_tokens=200, ignore_eos=True)
    allowed_ms = whole.accepted.predicted_total_ms / 4
    short = lone.chat(QUESTION, max_tokens=200, ignore_eos=True, timeout=allowed_ms / 1e3)
    assert 1 <= short.accepted.granted_max_tokens < 200
    assert short.accepted.predicted_total_ms <= allowed_ms + 1
    assert short.finish_reason in (FinishReason.LENGTH, FinishReason.DEADLINE)
    assert short.token_ids == whole.token_ids[: len(short.token_ids)]
    # It ends by its deadline and one step, with a neighbour's noise on it.
    assert short.timings.total_ms <= allowed_ms + 250


def test_an_answer_that_must_be_whole_is_refused_rather_than_shrunk(lone: Client) -> None:
    allowed_s = lone.chat(QUESTION, max_tokens=200, ignore_eos=True).accepted.predicted_total_ms / 4e3
    with pytest.raises(OverBudget) as refusal:
        lone.chat(QUESTION, max_tokens=200, ignore_eos=True, timeout=allowed_s, on_expiry="fail")
    assert refusal.value.numbers["missed"] == "total_ms"
    assert refusal.value.numbers["min_granted_tokens"] == 200


@pytest.mark.parametrize(
    ("budget", "missed"),
    [({"first_token_timeout": 0.05}, "first_token_ms"), ({"per_token_timeout": 0.001}, "per_token_ms")],
)
def test_what_this_device_can_never_do_is_refused_for_good(lone: Client, budget: dict[str, float], missed: str) -> None:
    with pytest.raises(OverBudget) as refusal:
        lone.generate(STORY[:4000], max_tokens=5, **budget)
    numbers = refusal.value.numbers
    assert numbers["missed"] == missed
    assert float(numbers["needed_ms"]) > float(numbers["budget_ms"]) == 1e3 * next(iter(budget.values()))
    assert refusal.value.retry_after_s is None


def test_generous_budgets_are_kept(lone: Client) -> None:
    before = lone.status()
    answer = lone.chat(QUESTION, max_tokens=8, timeout=60, first_token_timeout=30, per_token_timeout=10)
    assert answer.accepted.granted_max_tokens == 8
    after = status_when(lone, lambda status: status.budgets_met > before.budgets_met)
    assert after.budgets_missed == before.budgets_missed


def test_what_a_busy_device_cannot_do_now_it_can_do_later(lone: Client) -> None:
    allowed_ms = 4 * lone.chat(QUESTION, max_tokens=20, ignore_eos=True).accepted.predicted_total_ms
    with lone.stream_chat(QUESTION, max_tokens=1500, ignore_eos=True) as busy:
        deltas = iter(busy)  # held: to drop it is to leave the answer
        next(deltas)
        with pytest.raises(OverBudget) as refusal:
            lone.chat("What blows?", max_tokens=20, min_granted_tokens=20, timeout=allowed_ms / 1e3)
    assert refusal.value.retry_after_s is not None
    assert refusal.value.retry_after_s > 0
    assert refusal.value.numbers["open_requests"] == 1
    status_when(lone, lambda status: status.slots_used == 0)
    answer = lone.chat("What blows?", max_tokens=20, min_granted_tokens=20, timeout=allowed_ms / 1e3)
    assert answer.accepted.granted_max_tokens == 20


def test_the_critical_go_before_the_background_within_a_few_steps(client: Client) -> None:
    with ExitStack() as stack:
        for start in range(0, 6000, 1000):
            prompt = STORY[start : start + 3000]
            stack.enter_context(client.stream_generate(prompt, max_tokens=200, ignore_eos=True, priority="background"))
        before = status_when(client, lambda status: status.slots_used == status.slots)
        with client.stream_chat("Stop?", max_tokens=5, ignore_eos=True, priority="critical") as critical:
            asked = client.status()
            deltas = iter(critical)
            next(deltas)
            came = client.status()
            assert list(deltas)
        # Its prompt of some 30 tokens is one step or two; six long prompts and their answers are hundreds.
        assert came.steps - asked.steps <= 10
        assert came.requests_preempted >= before.requests_preempted + 1
        assert client.status().requests_finished == before.requests_finished + 1
    status_when(client, lambda status: status.slots_used == status.queued == 0)


def test_background_work_that_gave_way_ends_as_if_it_had_not(client: Client, plain: Plain) -> None:
    expected = plain.generate(STORY[:1500], max_tokens=60, ignore_eos=True)
    answers = {}
    preempted = client.status().requests_preempted

    def ask(place: int) -> None:
        prompt = STORY[:1500] if place == 0 else STORY[1500 * place : 1500 * place + 1500]
        answers[place] = client.generate(prompt, max_tokens=60, ignore_eos=True, priority="background")

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    status_when(client, lambda status: status.slots_used == status.slots)
    for _ in range(3):
        client.chat("Stop?", max_tokens=3, ignore_eos=True, priority="critical")
    for thread in threads:
        thread.join()
    assert client.status().requests_preempted > preempted
    assert answers[0].token_ids == expected.token_ids


def test_the_oldest_turns_go_where_the_caller_says_so(client: Client, plain: Plain) -> None:
    messages = [{"role": "system", "content": SYSTEM}]
    for part in range(8):
        messages += [
            {"role": "user", "content": STORY[part * 900 : part * 900 + 900]},
            {"role": "assistant", "content": "I see."},
        ]
    messages.append({"role": "user", "content": "What did the van do?"})
    limit = client.status().context_limit
    with pytest.raises(ContextOverflow) as refusal:
        client.chat(messages, max_tokens=100, min_granted_tokens=100)
    assert refusal.value.numbers["context_limit"] == limit

    answer = client.chat(
        messages, max_tokens=24, ignore_eos=True, min_granted_tokens=100, on_overflow="truncate_oldest"
    )

    accepted = answer.accepted
    assert accepted.dropped_messages > 0
    assert accepted.dropped_tokens > 0
    assert accepted.prompt_tokens <= limit - 100
    left = [messages[0], *messages[1 + accepted.dropped_messages :]]
    assert client.count_tokens(left).count == accepted.prompt_tokens
    assert answer.token_ids == plain.chat(left, max_tokens=24, ignore_eos=True).token_ids
