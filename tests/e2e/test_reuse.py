"""What was computed before, and what was guessed, changes when tokens come and never which; on the int8 cache."""

from __future__ import annotations

import pytest

from bise import Client, Result
from e2e.conftest import Plain, status_when
from e2e.prompts import EDIT, STORY, SYSTEM

pytestmark = [pytest.mark.slow, pytest.mark.real_model, pytest.mark.timeout(400)]

ANSWER_TOKENS = 32


def same(found: Result, expected: Result) -> None:
    assert expected.usage.cached_tokens == expected.usage.draft_tokens == 0
    assert found.token_ids == expected.token_ids
    assert found.text == expected.text


def test_the_same_prompt_twice(client: Client, plain: Plain) -> None:
    prompt = STORY[:2000]
    expected = plain.generate(prompt, max_tokens=ANSWER_TOKENS, ignore_eos=True)
    for _ in range(2):
        found = client.generate(prompt, max_tokens=ANSWER_TOKENS, ignore_eos=True)
        same(found, expected)
    # All but the last token, whose logits are what the answer begins with.
    assert found.usage.cached_tokens == found.accepted.cached_tokens == found.usage.prompt_tokens - 1


def test_each_turn_of_a_chat_goes_on_from_the_one_before(client: Client, plain: Plain) -> None:
    messages = [{"role": "system", "content": SYSTEM}]
    before = 0
    for question in ("Where is the Rue du Lac?", "And from there to the station?", "Are you sure?"):
        messages.append({"role": "user", "content": question})
        expected = plain.chat(messages, max_tokens=ANSWER_TOKENS)
        found = client.chat(messages, max_tokens=ANSWER_TOKENS)
        same(found, expected)
        # What the answer adds to the prompt may be tokenized otherwise than it was generated; what was there is reused.
        assert found.usage.cached_tokens >= before
        before = found.usage.prompt_tokens - 5
        messages.append({"role": "assistant", "content": found.text})


def test_a_prefix_is_copied_from_one_that_still_runs(client: Client, plain: Plain) -> None:
    begin = STORY[2000:5000]
    asked = [f"{begin} Yesterday", f"{begin} Tomorrow"]
    expected = [plain.generate(prompt, max_tokens=100, ignore_eos=True) for prompt in asked]
    with client.stream_generate(asked[0], max_tokens=100, ignore_eos=True) as first:
        deltas = iter(first)
        next(deltas)
        second = client.generate(asked[1], max_tokens=100, ignore_eos=True)
        for _ in deltas:
            pass
        same(first.result, expected[0])
    same(second, expected[1])
    assert second.usage.cached_tokens >= second.usage.prompt_tokens - 5


def test_a_prompt_that_was_left_is_taken_up_where_it_was(client: Client, plain: Plain) -> None:
    expected = plain.generate(STORY[5000:], max_tokens=ANSWER_TOKENS, ignore_eos=True)
    before = client.status()
    with client.stream_generate(STORY[5000:], max_tokens=ANSWER_TOKENS, ignore_eos=True) as stream:
        prompt_tokens = stream.accepted.prompt_tokens - stream.accepted.cached_tokens
        status_when(client, lambda status: status.prompt_tokens > before.prompt_tokens)
    left = status_when(client, lambda status: status.slots_used == 0)
    computed = left.prompt_tokens - before.prompt_tokens
    assert 0 < computed < prompt_tokens
    assert left.requests_cancelled == before.requests_cancelled + 1
    found = client.generate(STORY[5000:], max_tokens=ANSWER_TOKENS, ignore_eos=True)
    same(found, expected)
    assert found.usage.cached_tokens == stream.accepted.cached_tokens + computed


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.4, "top_p": 0.9, "seed": 11}], ids=["greedy", "sampled"])
def test_guessing_ahead_changes_no_token(client: Client, plain: Plain, sampling: dict[str, float]) -> None:
    expected = plain.chat(EDIT, max_tokens=200, ignore_eos=True, **sampling)
    found = client.chat(EDIT, max_tokens=200, ignore_eos=True, **sampling)
    same(found, expected)
    assert 0 < found.usage.accepted_draft_tokens <= found.usage.draft_tokens
