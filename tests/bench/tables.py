"""Results as tables for a terminal, and where they are kept."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
WIDTH = 120
_BESIDE = 8

Row = tuple[str, dict[str, float]]


def show(name: str, result: dict[str, Any], console: Console | None = None) -> None:
    """Prints a result: a table for each run of rows with the same figures, then what could not be measured, and ratios.

    Nothing is wider than `WIDTH`: rows of many figures have them one below the other instead.
    """
    console = console or Console(width=WIDTH)
    console.print(f"{name}: {result['what']}", style="italic", markup=False)
    rows: dict[str, dict[str, float]] = result.get("summary") or result["table"]
    for _, kind in groupby(rows.items(), lambda row: tuple(row[1])):
        alike = list(kind)
        console.print(_across(alike) if len(alike[0][1]) <= _BESIDE else _below(alike))
    for reason in ("skipped", "failed"):
        for label, why in result.get(reason, {}).items():
            console.print(f"{label}: {reason}: {why}", markup=False)
    for label, value in result["ratios"].items():
        bar = result["bars"].get(label)
        console.print(f"{label}: [bold]{value:.4g}[/]" + (f" (bar {bar})" if bar is not None else ""))


def _across(rows: list[Row]) -> Table:
    """A row of the result is one of the table."""
    table = Table("")
    for column in rows[0][1]:
        table.add_column(column.replace("_", " "), justify="right")  # wraps between words
    for label, values in rows:
        table.add_row(label, *map(_said, values.values()))
    return table


def _below(rows: list[Row]) -> Table:
    """A row of the result is a column of the table."""
    table = Table("")
    for label, _ in rows:
        table.add_column(label, justify="right")
    for column in rows[0][1]:
        table.add_row(column, *(_said(values[column]) for _, values in rows))
    return table


def _said(value: float) -> str:
    return f"{value:.4g}"
