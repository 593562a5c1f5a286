from __future__ import annotations

from bise import Accepted, FinishReason, Result, Timings, Usage
from bise.cli.timings import timings_line

TIMINGS = Timings(queue_ms=1, prefill_ms=100, first_token_ms=118.6, total_ms=1420, tokens_per_second=31.24)


def test_what_was_predicted_and_saved_stands_beside_what_it_took() -> None:
    accepted = Accepted("r", 130, 256, 2048, 0, predicted_first_token_ms=112.4, predicted_total_ms=5204)
    usage = Usage(130, 42, cached_tokens=96, draft_tokens=20, accepted_draft_tokens=12)
    assert timings_line(Result("", FinishReason.STOP, usage, TIMINGS, accepted)) == (
        "42 tokens · first after 119 ms (112 predicted) · 31.2 tokens/s · 1.42 s in all (5.20 predicted for 256)"
        " · 96 of 130 prompt tokens cached · 12 of 20 drafted tokens accepted"
    )


def test_a_daemon_that_predicts_and_saves_nothing() -> None:
    result = Result("", FinishReason.STOP, Usage(130, 42), TIMINGS, Accepted("r", 130, 256, 2048, 0))
    assert timings_line(result) == "42 tokens · first after 119 ms · 31.2 tokens/s · 1.42 s in all"
