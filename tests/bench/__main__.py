"""`python -m tests.bench [NAME]…`: measures, prints a table, writes results/NAME.json; `BENCHES` has the names."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

BENCHES = {
    "attention": "tests.bench.attention",
    "decode": "tests.bench.decode",
    "client": "tests.bench.client",
    "quality": "tests.bench.quality",
    "promises": "tests.bench.promises.table",
}
RESULTS = Path(__file__).parent / "results"


def main(names: list[str]) -> None:
    """Runs the benches named, or all."""
    if unknown := set(names) - set(BENCHES):
        sys.exit(f"bench: expected some of {', '.join(BENCHES)}; got {', '.join(sorted(unknown))}")
    for name in names or BENCHES:
        result = importlib.import_module(BENCHES[name]).run()
        show(name, result)
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def show(name: str, result: dict[str, Any]) -> None:
    """Prints a result as a table, with its ratios and bars below."""
    rows: dict[str, dict[str, float]] = result.get("summary") or result["table"]
    columns = list(dict.fromkeys(column for values in rows.values() for column in values))
    table = Table(title=f"{name}: {result['what']}", title_justify="left")
    table.add_column("")
    for column in columns:
        table.add_column(column, justify="right")
    for row, values in rows.items():
        table.add_row(row, *(f"{values[column]:.4g}" if column in values else "" for column in columns))
    console = Console()
    console.print(table)
    for label, value in result["ratios"].items():
        bar = result["bars"].get(label)
        console.print(f"{label}: [bold]{value:.4g}[/]" + (f" (bar {bar})" if bar is not None else ""))


if __name__ == "__main__":
    main(sys.argv[1:])
