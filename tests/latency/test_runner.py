"""The runner: what it notes of every way an answer can go."""

from __future__ import annotations

import pytest

from bench.latency.runner import Outcome, replay
from bench.latency.server import Promise, RefusedError, ServerError, Tokens


def test_it_notes_when_each_token_came(in_virtual_time, scripted, call) -> None:
    server = scripted({"talk": [5.0, Promise(60, 90, 4), 55.0, Tokens(1), 10.0, Tokens(2), 7.0, Tokens(1)]})
    (record,) = in_virtual_time(replay(server, [call(at_ms=500)]))
    assert record.outcome is Outcome.ANSWERED
    assert record.token_ms == pytest.approx((60, 70, 70, 77))
    assert record.gaps_ms == pytest.approx([10, 0, 7])
    assert record.promise == Promise(60, 90, 4)
    assert record.late_ms == pytest.approx(0)
    assert record.whole


def test_a_slow_answer_delays_no_other_call(in_virtual_time, scripted, call) -> None:
    server = scripted({"slow": [2000.0, Tokens(4)], "talk": [3.0, Tokens(4)]})
    slow, quick = in_virtual_time(replay(server, [call("slow"), call("talk", at_ms=50)]))
    assert slow.token_ms[0] == pytest.approx(2000)
    assert quick.token_ms[0] == pytest.approx(3)


def test_refusals_and_failures_are_told_apart(in_virtual_time, scripted, call) -> None:
    server = scripted(
        {
            "refused": [2.0, RefusedError("BUDGET")],
            "failed": [Tokens(1), 9.0, ServerError("hung up")],
            "gone": [ConnectionResetError("reset")],
        }
    )
    refused, failed, gone = in_virtual_time(replay(server, [call("refused"), call("failed"), call("gone")]))
    assert (refused.outcome, refused.detail) == (Outcome.REFUSED, "BUDGET")
    assert refused.ended_ms == pytest.approx(2)
    assert (failed.outcome, len(failed.token_ms), failed.whole) == (Outcome.FAILED, 1, False)
    assert "hung up" in failed.detail
    assert gone.outcome is Outcome.FAILED


def test_a_server_that_hangs_is_left(in_virtual_time, scripted, call) -> None:
    server = scripted({"talk": [Tokens(1), 1e9, Tokens(3)]})
    (record,) = in_virtual_time(replay(server, [call(total_ms=1000)]))
    assert record.outcome is Outcome.FAILED
    assert record.ended_ms == pytest.approx(11_000)
    assert server.left == 1


@pytest.mark.parametrize(
    ("token_ms", "first", "gaps", "pace", "total"),
    [
        ((100, 120, 140, 160), True, True, True, True),
        ((101, 120, 140, 160), False, True, True, True),
        ((10, 45, 50, 55), True, False, True, True),
        ((10, 40, 70, 100), True, False, False, True),
        ((50, 60, 70, 201), True, False, False, False),
        ((50, 60, 70), True, True, True, False),
        ((), False, False, False, False),
    ],
)
def test_each_budget_is_judged_by_itself(record, token_ms, first, gaps, pace, total) -> None:
    one = record(*token_ms)
    assert (one.met_first_token, one.met_every_gap, one.met_pace, one.met_total) == (first, gaps, pace, total)
