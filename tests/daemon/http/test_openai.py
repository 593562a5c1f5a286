"""The official client before a real daemon, with a tiny real model: every call as its documentation has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openai
import pytest

from bise import Client, Status
from running import RunningDaemon

pytestmark = pytest.mark.slow

HELLO: Any = [{"role": "user", "content": "Hello"}]
Wait = Callable[[Callable[[Status], bool]], Status]
# bise's own, where a test needs an answer of a certain length.
FULL: Any = {"bise": {"ignore_eos": True}}


def test_the_model_is_listed_and_found(openai_client: openai.OpenAI, client: Client) -> None:
    (model,) = openai_client.models.list().data
    assert (model.id, model.object) == ("tiny", "model")
    assert openai_client.models.retrieve("tiny") == model
    assert model.model_extra == {"context_limit": client.status().context_limit}


def test_a_chat_is_the_daemon_s_chat(openai_client: openai.OpenAI, client: Client) -> None:
    whole = client.chat("Hello", max_tokens=12, ignore_eos=True)
    answer = openai_client.chat.completions.create(
        model="tiny", messages=HELLO, max_completion_tokens=12, temperature=0, extra_body=FULL
    )
    assert answer.choices[0].message.content == whole.text
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 12
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 12
    assert answer.model_extra is not None
    assert answer.model_extra["bise"]["done"]["finish_reason"] == "LENGTH"


def test_a_stream_is_the_same_in_pieces(openai_client: openai.OpenAI) -> None:
    asked: Any = {"model": "tiny", "messages": HELLO, "max_tokens": 12, "seed": 5, "extra_body": FULL}
    whole = openai_client.chat.completions.create(**asked)
    chunks = list(openai_client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert len({chunk.id for chunk in chunks}) == 1
    *choices, usage = chunks
    assert "".join(chunk.choices[0].delta.content or "" for chunk in choices) == whole.choices[0].message.content
    assert choices[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in choices if chunk.choices[0].finish_reason] == ["length"]
    assert usage.choices == []
    assert usage.usage is not None
    assert usage.usage.completion_tokens == 12


def test_the_client_s_own_stream_helper_understands_it(openai_client: openai.OpenAI) -> None:
    asked: Any = {"model": "tiny", "messages": HELLO, "max_tokens": 30, "temperature": 0, "extra_body": FULL}
    text = openai_client.chat.completions.create(**asked).choices[0].message.content
    assert text
    # An answer that was cut is an exception to it.
    with openai_client.chat.completions.stream(**asked, stop=text[5:9]) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
    assert stream.get_final_completion().choices[0].message.content == "".join(deltas)


def test_a_stream_tells_its_usage_only_where_asked(openai_client: openai.OpenAI) -> None:
    stream = openai_client.chat.completions.create(model="tiny", messages=HELLO, max_tokens=2, stream=True)
    assert all(chunk.usage is None and chunk.choices for chunk in stream)


async def test_the_asynchronous_client(daemon: RunningDaemon) -> None:
    async with openai.AsyncOpenAI(base_url=f"{daemon.http}/v1", api_key="none") as client:
        answer = await client.chat.completions.create(model="tiny", messages=HELLO, max_tokens=3, extra_body=FULL)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3


@pytest.mark.parametrize("prompt", ["Once upon a time", [5, 6, 7]])
def test_a_completion_is_the_daemon_s_generation(openai_client: openai.OpenAI, client: Client, prompt: Any) -> None:
    whole = client.generate(prompt, max_tokens=8, ignore_eos=True, logprobs=True, top_logprobs=2)
    answer = openai_client.completions.create(
        model="tiny", prompt=prompt, max_tokens=8, temperature=0, logprobs=2, extra_body=FULL
    )
    assert answer.choices[0].text == whole.text
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.token_logprobs == pytest.approx([each.logprob for each in whole.logprobs])


def test_a_completion_has_sixteen_tokens_where_nothing_is_said(openai_client: openai.OpenAI) -> None:
    stream = openai_client.completions.create(
        model="tiny", prompt="Hi", stream=True, stream_options={"include_usage": True}, extra_body=FULL
    )
    usage = [chunk.usage for chunk in stream][-1]
    assert usage is not None
    assert usage.completion_tokens == 16


def test_logprobs_of_a_chat_are_the_daemon_s(openai_client: openai.OpenAI, client: Client) -> None:
    whole = client.chat("Hello", max_tokens=4, ignore_eos=True, logprobs=True, top_logprobs=3)
    answer = openai_client.chat.completions.create(
        model="tiny", messages=HELLO, max_tokens=4, temperature=0, logprobs=True, top_logprobs=3, extra_body=FULL
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert [bytes(each.bytes or []) for each in logprobs.content] == [each.token for each in whole.logprobs]
    assert [len(each.top_logprobs) for each in logprobs.content] == [3] * 4


def test_a_seed_gives_the_same_answer_and_a_stop_ends_it(openai_client: openai.OpenAI) -> None:
    asked: Any = {"model": "tiny", "messages": HELLO, "max_tokens": 30, "seed": 7, "extra_body": FULL}
    first, second = (openai_client.chat.completions.create(**asked).choices[0] for _ in range(2))
    text = first.message.content
    assert text
    assert text == second.message.content
    stopped = openai_client.chat.completions.create(**asked, stop=text[5:9]).choices[0]
    assert stopped.message.content == text[: text.index(text[5:9])]
    assert stopped.finish_reason == "stop"


@pytest.mark.parametrize(
    "allowed",
    [
        {"extra_headers": {"X-Bise-First-Token-Ms": "1"}},
        {"extra_body": {"bise": {"budget": {"first_token_ms": 1}}}},
    ],
    ids=["header", "field"],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_has_its_numbers_and_is_not_asked_again_in_vain(
    openai_client: openai.OpenAI, client: Client, allowed: dict[str, Any], stream: bool
) -> None:
    before = client.status().refusals.get("BUDGET", 0)
    prompt = list(range(60, 310))
    with pytest.raises(openai.RateLimitError) as refusal:
        openai_client.completions.create(model="tiny", prompt=prompt, stream=stream, **allowed)
    error: Any = refusal.value.body
    assert error["reason"] == refusal.value.code == "BUDGET"
    assert error["numbers"]["missed"] == "first_token_ms"
    assert error["numbers"]["needed_ms"] > 1
    assert error["retry_after_ms"] is None  # it would not fit on an idle device either
    assert client.status().refusals["BUDGET"] == before + 1


def test_an_answer_that_ran_out_of_time_is_cut_or_an_error_as_asked(openai_client: openai.OpenAI) -> None:
    asked: Any = {"model": "tiny", "prompt": [5, 6, 7], "max_tokens": 200}
    alone = openai_client.completions.create(**asked, extra_body=FULL)
    promised = alone.model_extra["bise"]["accepted"] if alone.model_extra else {}
    budget = {"total_ms": max(2, round(promised["predicted_total_ms"] / 4))}
    own = {"bise": {**FULL["bise"], "budget": budget}}
    cut = openai_client.completions.create(**asked, extra_body=own)
    assert cut.choices[0].finish_reason == "length"
    assert cut.usage is not None
    assert cut.usage.completion_tokens < 200
    with pytest.raises(openai.RateLimitError):
        openai_client.completions.create(**asked, extra_body={"bise": {**own["bise"], "on_expiry": "FAIL"}})


@pytest.mark.parametrize(
    ("fields", "kind", "code"),
    [
        ({"n": 2}, openai.BadRequestError, "INVALID_OPTION"),
        ({"temperature": 9}, openai.BadRequestError, "INVALID_OPTION"),
        ({"messages": []}, openai.BadRequestError, "INVALID_MESSAGE"),
        ({"logit_bias": {"999999": 1}}, openai.BadRequestError, "INVALID_OPTION"),
        ({"model": "gpt-5"}, openai.NotFoundError, "model_not_found"),
        (
            {"messages": [{"role": "user", "content": "word " * 2000}]},
            openai.BadRequestError,
            "context_length_exceeded",
        ),
        ({"extra_body": {"reasoning": {}}}, openai.BadRequestError, "INVALID_OPTION"),
        ({"extra_headers": {"X-Bise-Priority": "urgent"}}, openai.BadRequestError, "INVALID_OPTION"),
        ({"extra_headers": {"Origin": "http://evil.example"}}, openai.PermissionDeniedError, "FOREIGN_ORIGIN"),
        ({"extra_headers": {"Host": "evil.example"}}, openai.PermissionDeniedError, "FOREIGN_HOST"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_an_error_is_the_client_s_own_kind(
    openai_client: openai.OpenAI, fields: dict[str, Any], kind: type[openai.APIStatusError], code: str
) -> None:
    with pytest.raises(kind) as failure:
        openai_client.chat.completions.create(**{"model": "tiny", "messages": HELLO, "max_tokens": 2, **fields})
    assert failure.value.code == code
    assert failure.value.message


def test_a_request_too_large_is_read_no_further(openai_client: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "x" * 100_000}]
    with pytest.raises(openai.APIStatusError) as failure:
        openai_client.chat.completions.create(model="tiny", messages=messages)
    assert failure.value.status_code == 413
    assert failure.value.code == "MESSAGE_TOO_LARGE"


def test_who_leaves_a_stream_ends_its_answer(openai_client: openai.OpenAI, client: Client, status_when: Wait) -> None:
    before = client.status().requests_cancelled
    with openai_client.completions.create(
        model="tiny", prompt="Hi", max_tokens=4000, stream=True, extra_body=FULL
    ) as stream:
        next(iter(stream))
    after = status_when(lambda status: status.slots_used == 0 and status.queued == 0)
    assert after.requests_cancelled == before + 1


def test_who_gives_up_waiting_ends_its_answer(openai_client: openai.OpenAI, client: Client, status_when: Wait) -> None:
    before = client.status()
    with pytest.raises(openai.APITimeoutError):
        openai_client.with_options(timeout=0.02, max_retries=0).completions.create(
            model="tiny", prompt="Hi", max_tokens=4000, extra_body=FULL
        )
    after = status_when(lambda status: status.slots_used == 0 and status.queued == 0)
    assert after.requests_cancelled == before.requests_cancelled + 1
    assert after.requests_finished == before.requests_finished
