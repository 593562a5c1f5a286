"""The Grafana dashboard: rows of panels, each some expressions over the daemon's metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_COLUMNS = 24
_HEIGHT = 7
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_HERE = 'instance=~"$instance"'


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture.

    Attributes:
        unit: Grafana's word for it.
        curves: expressions, in which `$` before a brace stands for the chosen instances, and how each is called.
        kind: `timeseries` or `stat`.
    """

    title: str
    unit: str
    curves: Sequence[tuple[str, str]]
    kind: str = "timeseries"


def _quantiles(metric: str) -> Sequence[tuple[str, str]]:
    return [
        (
            f"histogram_quantile({share}, sum by (le) (rate({metric}_bucket{{$}}[$__rate_interval])))",
            f"p{share * 100:g}",
        )
        for share in (0.5, 0.95)
    ]


ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "At a glance",
        (
            Panel("State", "none", [("bise_state{$} == 1", "{{instance}} {{state}}")], "stat"),
            Panel("Model", "none", [("bise_info{$}", "{{model}} {{model_version}}, bise {{version}}")], "stat"),
            Panel("Memory level", "none", [("bise_memory_level{$} == 1", "{{instance}} {{level}}")], "stat"),
            Panel("Up", "s", [("bise_uptime_seconds{$}", "{{instance}}")], "stat"),
        ),
    ),
    (
        "Promises",
        (
            Panel(
                "Budgets missed",
                "percentunit",
                [("bise:budgets_missed:share{$}", "{{instance}} {{priority}}")],
            ),
            Panel(
                "Budgets",
                "reqps",
                [
                    (
                        "sum by (priority, outcome) (rate(bise_budgets_total{$}[$__rate_interval]))",
                        "{{priority}} {{outcome}}",
                    )
                ],
            ),
            Panel(
                "Refusals",
                "reqps",
                [("sum by (reason) (rate(bise_refusals_total{$}[$__rate_interval])) > 0", "{{reason}}")],
            ),
            Panel(
                "How far predictions are off",
                "percentunit",
                [("bise_prediction_error_ratio{$}", "{{instance}} {{of}} p{{percentile}}")],
            ),
        ),
    ),
    (
        "Answers",
        (
            Panel("Time to first token", "s", _quantiles("gen_ai_server_time_to_first_token_seconds")),
            Panel("Time per token", "s", _quantiles("gen_ai_server_time_per_output_token_seconds")),
            Panel(
                "Requests by how they ended",
                "reqps",
                [
                    (
                        "sum by (error_type) (rate(gen_ai_server_request_duration_seconds_count{$}[$__rate_interval]))",
                        "{{error_type}}",
                    )
                ],
            ),
            Panel("Duration", "s", _quantiles("gen_ai_server_request_duration_seconds")),
            Panel(
                "Tokens of an answer",
                "none",
                [
                    (
                        "sum by (gen_ai_token_type) (rate(gen_ai_client_token_usage_sum{$}[$__rate_interval]))"
                        " / sum by (gen_ai_token_type) (rate(gen_ai_client_token_usage_count{$}[$__rate_interval]))",
                        "{{gen_ai_token_type}}",
                    )
                ],
            ),
            Panel(
                "Requests",
                "reqps",
                [
                    ("sum by (outcome) (rate(bise_requests_total{$}[$__rate_interval]))", "{{outcome}}"),
                    ("sum(rate(bise_requests_expired_total{$}[$__rate_interval]))", "expired"),
                    ("sum(rate(bise_preemptions_total{$}[$__rate_interval]))", "interrupted"),
                ],
            ),
        ),
    ),
    (
        "Work",
        (
            Panel(
                "Tokens a second",
                "none",
                [("sum by (instance, kind) (rate(bise_tokens_total{$}[$__rate_interval]))", "{{instance}} {{kind}}")],
            ),
            Panel(
                "Slots and queue",
                "none",
                [
                    ("bise_slots{$}", "{{instance}} slots"),
                    ("bise_slots_used{$}", "{{instance}} used"),
                    ("bise_queue{$}", "{{instance}} waiting"),
                ],
            ),
            Panel(
                "Step time over what was expected",
                "none",
                [("bise_step_time_ratio{$}", "{{instance}} p{{percentile}}")],
            ),
            Panel(
                "Steps a second",
                "none",
                [("rate(bise_steps_total{$}[$__rate_interval])", "{{instance}}")],
            ),
            Panel("The present step", "s", [("bise_step_running_seconds{$}", "{{instance}}")]),
            Panel(
                "Guesses",
                "none",
                [("sum by (kind) (rate(bise_drafts_total{$}[$__rate_interval]))", "{{kind}}")],
            ),
        ),
    ),
    (
        "Memory",
        (
            Panel(
                "Memory",
                "bytes",
                [
                    ("bise_memory_resident_bytes{$}", "{{instance}} held"),
                    ("bise_memory_resident_peak_bytes{$}", "{{instance}} most held"),
                    ("bise_memory_available_bytes{$}", "{{instance}} free"),
                ],
            ),
            Panel(
                "KV cache",
                "bytes",
                [
                    ("bise_kv_used_bytes{$}", "{{instance}} used"),
                    ("bise_kv_idle_bytes{$}", "{{instance}} idle"),
                    ("bise_kv_budget_bytes{$}", "{{instance}} budget"),
                    ("bise_kv_reserved_bytes{$}", "{{instance}} address space"),
                ],
            ),
            Panel("Context limit", "none", [("bise_context_limit{$}", "{{instance}}")]),
            Panel(
                "Waiting for memory",
                "percentunit",
                [("bise_memory_pressure_ratio{$}", "{{instance}} {{work}}")],
            ),
        ),
    ),
    (
        "Device",
        (
            Panel("Temperature", "celsius", [("bise_temperature_celsius{$}", "{{instance}} {{sensor}}")]),
            Panel(
                "Clocks",
                "percentunit",
                [
                    ("bise_cpu_speed_ratio{$}", "{{instance}} now"),
                    ("bise_cpu_speed_limit_ratio{$}", "{{instance}} allowed"),
                ],
            ),
            Panel(
                "Throttled",
                "none",
                [("increase(bise_cpu_throttled_total{$}[$__rate_interval])", "{{instance}}")],
            ),
            Panel(
                "Power",
                "watt",
                [("rate(bise_energy_joules_total{$}[$__rate_interval])", "{{instance}} {{source}}")],
            ),
            Panel("Energy of a token", "joule", [("bise:joules_per_token:rate5m{$}", "{{instance}}")]),
            Panel(
                "Telemetry sent",
                "none",
                [
                    ("sum by (outcome) (increase(bise_otlp_batches_total{$}[$__rate_interval]))", "{{outcome}}"),
                    ("bise_otlp_waiting_bytes{$}", "{{instance}} waiting, bytes"),
                ],
            ),
            Panel("Load of the model", "s", [("bise_load_duration_seconds{$}", "{{instance}}")]),
        ),
    ),
)


def dashboard() -> dict[str, Any]:
    """Grafana's JSON of all rows."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in ROWS:
        panels.append(
            {"type": "row", "title": title, "id": len(panels) + 1, "gridPos": {"x": 0, "y": top, "w": _COLUMNS, "h": 1}}
        )
        across = 4 if len(row) == 4 else 3
        width = _COLUMNS // across
        for number, panel in enumerate(row):
            down, column = divmod(number, across)
            place = {"x": column * width, "y": top + 1 + down * _HEIGHT, "w": width, "h": _HEIGHT}
            panels.append(_panel(panel, len(panels) + 1, place))
        top += 1 + -(-len(row) // across) * _HEIGHT
    return {
        "uid": "bise",
        "title": "bise",
        "tags": ["bise"],
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus"},
                {
                    "name": "instance",
                    "type": "query",
                    "datasource": _SOURCE,
                    "query": "label_values(bise_info, instance)",
                    "multi": True,
                    "includeAll": True,
                    "refresh": 2,
                },
            ]
        },
        "panels": panels,
    }


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    # A figure's name is what such a panel is looked at for.
    options = {"textMode": "name", "graphMode": "none"} if panel.kind == "stat" and panel.unit == "none" else {}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": options,
        "targets": [
            {"refId": chr(ord("A") + index), "expr": expression.replace("{$}", f"{{{_HERE}}}"), "legendFormat": legend}
            for index, (expression, legend) in enumerate(panel.curves)
        ],
    }
