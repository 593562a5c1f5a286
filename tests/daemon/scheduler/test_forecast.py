from __future__ import annotations

from dataclasses import dataclass

from bise_daemon.scheduler.forecast import Standing, forecast
from bise_daemon.scheduler.limits import Limits
from bise_daemon.scheduler.request import Request
from virtual_device import LinearCosts


@dataclass(frozen=True, slots=True)
class DearRows(LinearCosts):
    """Calibrated beside a neighbour who came and went: rows alone look dearer than with a chunk."""

    def decode_ms(self, rows: int, context_tokens: int) -> float:
        return 10 * self.mixed_ms(8, context_tokens, rows, context_tokens)


def test_a_mixed_step_that_looks_shorter_than_its_rows_takes_no_negative_time() -> None:
    row, prompt = Standing.of(Request("row", [1] * 9, 30)), Standing.of(Request("prompt", [1] * 200, 3))
    row.running = row.begun = prompt.running = True
    row.left_to_prefill, row.computed_tokens = 0, 9
    ahead = forecast([row, prompt], Limits(2, 512, 1024, 64, mixes=True), DearRows(), now=5.0)
    assert ahead["row"].ended_at_ms > 5.0
    assert (ahead["prompt"].first_token_at_ms or 0) > 5.0
