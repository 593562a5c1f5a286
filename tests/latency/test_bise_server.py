"""The caller of bise, against the SDK's fake daemon."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench.latency.bise_server import answer
from bench.latency.server import Promise, RefusedError, ServerError, Tokens
from bench.latency.trace import Call
from bise import AsyncClient
from bise.errors import BiseError, DaemonError, OverBudget
from bise.testing import Answer, FakeDaemon


async def events(scripted: Answer | BiseError, call: Call) -> tuple[list[object], FakeDaemon]:
    with FakeDaemon([scripted]) as daemon:
        async with AsyncClient(daemon.address) as client:
            return [event async for event in answer(client, call)], daemon


async def test_a_promise_comes_before_its_tokens(call: Callable[..., Call]) -> None:
    scripted = Answer(text=["a", "b", "c", "d"], predicted_first_token_ms=40, predicted_total_ms=90)
    got, daemon = await events(scripted, call(first_token_ms=300.0, per_token_ms=50.0, total_ms=60e3))
    assert got[0] == Promise(40, 90, 4)
    assert sum(event.count for event in got[1:] if isinstance(event, Tokens)) == 4
    (request,) = daemon.requests
    assert request.token_ids == (1, 2, 3)
    assert (request.first_token_ms, request.per_token_ms, request.total_ms) == (300, 50, 60_000)
    assert (request.options["max_tokens"], request.options["min_granted_tokens"]) == (4, 4)


async def test_a_refusal_is_one_and_a_failure_another(call: Callable[..., Call]) -> None:
    with pytest.raises(RefusedError, match="BUDGET"):
        await events(OverBudget("too slow", reason="BUDGET"), call(total_ms=60e3))
    with pytest.raises(ServerError, match="DaemonError: it broke"):
        await events(Answer(error=DaemonError("it broke")), call(total_ms=60e3))
