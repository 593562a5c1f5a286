from __future__ import annotations

from bise import MemoryLevel, PredictionError, Status
from bise.cli.vitals import in_full, in_short


def test_each_matter_has_a_line() -> None:
    status = Status(
        memory_level=MemoryLevel.TIGHT,
        memory_available_bytes=2_140_000_000,
        rss_bytes=310_000_000,
        kv_used_bytes=12_000_000,
        kv_budget_bytes=64_000_000,
        kv_idle_bytes=8_000_000,
        memory_pressure_some=0.034,
        budgets_met=970,
        budgets_missed=3,
        first_token_error=PredictionError(0.081, 0.22, 100),
        total_error=PredictionError(0.05, 0.121, 90),
        step_time_ratio_p50=1.02,
        step_time_ratio_p90=1.31,
        requests_finished=1200,
        requests_expired=12,
        refusals={"QUEUE_FULL": 1, "MEMORY": 2, "BUDGET": 4},
    )
    assert in_full(status) == [
        "  memory     tight · 2.1 GB available · resident 310 MB · cache 12 MB of 64 MB, 8 MB idle"
        " · pressure 3% some, 0% full",
        "  budgets    970 met · 3 missed",
        "  predicted  first token off by 8% (p90 22%) · total off by 5% (p90 12%) · steps took 102% (p90 131%)",
        "  requests   1200 finished · 12 expired",
        "  refused    4 BUDGET · 2 MEMORY · 1 QUEUE_FULL",
    ]


def test_matters_without_anything_to_say_have_none() -> None:
    assert in_full(Status()) == ["  memory     normal · 0 MB available · resident 0 MB"]


def test_memory_is_mentioned_in_short_when_it_is_short() -> None:
    assert "memory tight" in in_short(Status(memory_level=MemoryLevel.TIGHT))
    assert not [part for part in in_short(Status()) if part.startswith("memory")]
