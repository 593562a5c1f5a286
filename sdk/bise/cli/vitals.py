"""What a daemon's status says to the person before the box: one line in short, then one for each matter."""

from __future__ import annotations

from collections.abc import Iterable

from bise.types import MemoryLevel, PredictionError, Status

_SHORT = (MemoryLevel.TIGHT, MemoryLevel.CRITICAL)


def in_short(status: Status) -> list[str]:
    """What is served, and what stands in its way."""
    return [
        f"{status.model or 'no model'} {status.model_version}".strip(),
        f"context {status.context_limit}",
        f"slots {status.slots_used}/{status.slots}",
        f"queued {status.queued}",
        *([f"memory {status.memory_level}"] if status.memory_level in _SHORT else []),
        f"up {status.uptime_s:.0f} s",
        *([status.detail] if status.detail else []),
    ]


def in_full(status: Status) -> list[str]:
    """A line for each matter there is something to say about, its name first."""
    matters = {
        "memory": _memory(status),
        "budgets": _budgets(status),
        "predicted": _predictions(status),
        "requests": _counts(
            {
                "finished": status.requests_finished,
                "expired": status.requests_expired,
                "cancelled": status.requests_cancelled,
                "failed": status.requests_failed,
                "preempted": status.requests_preempted,
            }.items()
        ),
        "refused": _counts(sorted(status.refusals.items(), key=lambda refusal: (-refusal[1], refusal[0]))),
    }
    return [f"  {name:<9}  {' · '.join(parts)}" for name, parts in matters.items() if parts]


def _memory(status: Status) -> list[str]:
    parts = [
        str(status.memory_level),
        f"{size(status.memory_available_bytes)} available",
        f"resident {size(status.rss_bytes)}",
    ]
    if status.kv_budget_bytes:
        cache = f"cache {size(status.kv_used_bytes)} of {size(status.kv_budget_bytes)}"
        parts.append(f"{cache}, {size(status.kv_idle_bytes)} idle")
    if status.memory_pressure_some:
        parts.append(f"pressure {status.memory_pressure_some:.0%} some, {status.memory_pressure_full:.0%} full")
    return parts


def _budgets(status: Status) -> list[str]:
    stated = status.budgets_met + status.budgets_missed
    return [f"{status.budgets_met} met", f"{status.budgets_missed} missed"] if stated else []


def _predictions(status: Status) -> list[str]:
    parts = [*_off("first token", status.first_token_error), *_off("total", status.total_error)]
    if status.step_time_ratio_p50:
        parts.append(f"steps took {status.step_time_ratio_p50:.0%} (p90 {status.step_time_ratio_p90:.0%})")
    return parts


def _off(name: str, error: PredictionError) -> list[str]:
    return [f"{name} off by {error.p50:.0%} (p90 {error.p90:.0%})"] if error.samples else []


def _counts(counts: Iterable[tuple[str, int]]) -> list[str]:
    return [f"{count} {name}" for name, count in counts if count]


def size(size_bytes: int) -> str:
    """In the unit a person would say it in."""
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.0f} MB"
