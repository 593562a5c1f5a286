"""The table of metrics for people."""

from __future__ import annotations

from bise_daemon.telemetry.metric import Metric
from bise_daemon.telemetry.table import METRICS

BEGIN, END = "<!-- metrics: make monitoring -->\n", "<!-- /metrics -->\n"


def rendered(text: str) -> str:
    """A page with the table as it is now between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    lines = ["| Prometheus | OpenTelemetry | kind | labels | what |", "|---|---|---|---|---|", *map(_row, METRICS)]
    return before + BEGIN + "\n".join(lines) + "\n" + END + after


def _row(metric: Metric) -> str:
    shown = metric.prometheus_family if metric.bounds else min(metric.prometheus_names)
    unit = f" in {metric.unit}" if metric.unit else ""
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{shown}` | `{metric.name}` | {metric.instrument}{unit} | {labels} | {metric.help} |"
