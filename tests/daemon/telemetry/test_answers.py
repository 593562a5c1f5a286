"""What is observed of an answer, however it ends."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from bise_daemon.errors import Reason, RequestError
from bise_daemon.serving import Stage
from bise_daemon.telemetry.answers import DURATION, FIRST_TOKEN, PER_TOKEN, TOKENS, Answers, Responses
from bise_daemon.telemetry.metric import Distribution, Metric
from bise_proto.v1 import inference_pb2 as pb


@pytest.fixture
def answers() -> Answers:
    stage = Stage()
    stage.serve(SimpleNamespace(model=SimpleNamespace(bundle=SimpleNamespace(name="tiny"))))  # type: ignore[arg-type]
    return Answers(stage)


async def given(completion_tokens: int = 5) -> Responses:
    yield pb.GenerateResponse(accepted=pb.Accepted(prompt_tokens=7))
    yield pb.GenerateResponse(delta=pb.Delta(text="Hi"))
    yield pb.GenerateResponse(
        done=pb.Done(
            usage=pb.Usage(prompt_tokens=7, completion_tokens=completion_tokens),
            timings=pb.Timings(first_token_ms=50, total_ms=130),
        )
    )


async def refused() -> Responses:
    raise RequestError(Reason.BUDGET, "no.")
    yield


def observed(answers: Answers, metric: Metric) -> dict[tuple[str, ...], Distribution]:
    """Distributions by the labels that are not the same for all."""
    return {
        labels[:1] + labels[3:]: value
        for family in answers.families()
        if family.metric is metric
        for labels, value in family.points.items()
        if isinstance(value, Distribution) and labels[1:3] == ("bise", "tiny")
    }


async def test_an_answer_is_observed_once(answers: Answers) -> None:
    assert [response async for response in answers.watched("chat", given())] == [each async for each in given()]
    assert observed(answers, FIRST_TOKEN)["chat",].sum == 0.05
    assert observed(answers, PER_TOKEN)["chat",].sum == pytest.approx(0.08 / 4)
    tokens = observed(answers, TOKENS)
    assert {labels: (each.sum, sum(each.counts)) for labels, each in tokens.items()} == {
        ("chat", "input"): (7, 1),
        ("chat", "output"): (5, 1),
    }
    assert {labels: sum(each.counts) for labels, each in observed(answers, DURATION).items()} == {("chat", ""): 1}


@pytest.mark.parametrize(("tokens", "firsts", "paces"), [(0, 0, 0), (1, 1, 0), (2, 1, 1)])
async def test_what_never_came_is_not_observed(answers: Answers, tokens: int, firsts: int, paces: int) -> None:
    _ = [response async for response in answers.watched("chat", given(tokens))]
    assert len(observed(answers, FIRST_TOKEN)) == firsts
    assert len(observed(answers, PER_TOKEN)) == paces


async def test_a_refusal_has_its_reason(answers: Answers) -> None:
    with pytest.raises(RequestError):
        await anext(answers.watched("text_completion", refused()))
    assert list(observed(answers, DURATION)) == [("text_completion", "BUDGET")]
    assert observed(answers, TOKENS) == {}


@pytest.mark.parametrize(("taken", "error"), [(1, "CANCELLED"), (2, "CANCELLED"), (3, "")])
async def test_who_leaves_is_told_apart(answers: Answers, taken: int, error: str) -> None:
    responses = given()
    watched = answers.watched("chat", responses)
    for _ in range(taken):
        await anext(watched)
    await watched.aclose()
    assert list(observed(answers, DURATION)) == [("chat", error)]
    with pytest.raises(StopAsyncIteration):
        await anext(responses)  # closed as well, so that its request is aborted


async def test_a_cancelled_call_counts_as_one_who_left(answers: Answers) -> None:
    reached = asyncio.Event()

    async def endless() -> Responses:
        reached.set()
        await asyncio.Event().wait()
        yield pb.GenerateResponse()

    call = asyncio.create_task(anext(answers.watched("chat", endless())))  # type: ignore[arg-type]
    await reached.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert list(observed(answers, DURATION)) == [("chat", "CANCELLED")]
