"""Solo times, and the unit of load and the budgets made of them."""

from __future__ import annotations

import pytest

from bench.latency.server import ServerError, Tokens
from bench.latency.shapes import Allowance, Shape, Solo
from bench.latency.solo import budgets, capacity_per_s, solo_times

TALK = Shape("talk", 0, 5, 4, weight=3.0)
CHAT = Shape("chat", 2, 5, 4, weight=1.0, later_turns=1, turn_tokens=3)
TIMES = {
    ("talk", 0): Solo(50, 10, 100),
    ("chat", 0): Solo(100, 10, 200),
    ("chat", 1): Solo(300, 10, 400),
}


def letters(texts):
    return [list(text.encode()) for text in texts]


def test_times_alone(in_virtual_time, scripted) -> None:
    server = scripted(
        {"talk": [50.0, Tokens(1), 10.0, Tokens(1), 14.0, Tokens(2)], "chat": [9.0, Tokens(1), Tokens(3)]}
    )
    found = in_virtual_time(solo_times(server, [TALK, CHAT], letters, "seed"))
    assert found.keys() == TIMES.keys()
    talk = found["talk", 0]
    assert (talk.first_token_ms, talk.per_token_ms, talk.total_ms) == pytest.approx((50, 8, 74))


def test_an_answer_that_is_not_whole_is_no_time(in_virtual_time, scripted) -> None:
    with pytest.raises(ServerError, match="talk alone: expected 4 tokens, got 1"):
        in_virtual_time(solo_times(scripted({"talk": [Tokens(1)]}), [TALK], letters, "seed"))


def test_capacity_is_one_over_the_mean_by_weight() -> None:
    assert capacity_per_s([TALK, CHAT], TIMES) == pytest.approx(1e3 / (0.75 * 100 + 0.25 * 300))


def test_budgets_follow_the_slower_server() -> None:
    other = TIMES | {("talk", 0): Solo(150, 5, 90)}
    allowed = budgets([TALK, CHAT], [TIMES, other], Allowance())["talk", 0]
    assert (allowed.first_token_ms, allowed.per_token_ms, allowed.total_ms) == (450, 50, 550)
