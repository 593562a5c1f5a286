"""`python -m tests.bench.soak`: half an hour of too much; prints what came of it, writes results/soak.json."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bise_export.pipeline import ExportOptions

from .. import models
from ..rounds import machine
from .run import BARS, SCALE, SEED, Soak, soak
from .samples import Row, rows, shown

RESULTS = Path(__file__).parents[1] / "results"
_ROWS_WRITTEN, _ROWS_SHOWN = 60, 20


def main() -> None:
    """Soaks, prints and writes; exits with 1 where a bar does not hold."""
    wanted = _arguments()
    bundle = wanted.bundle or models.bundle(ExportOptions(precision="int4"))
    found = asyncio.run(_until_terminated(soak(bundle, wanted.minutes, wanted.load)))
    result = {
        "what": f"{wanted.minutes:g} minutes at {wanted.load:g} times capacity, lengths times {SCALE:g}; "
        "callers that cancel, hang up and are cut off, and wrong requests",
        "machine": machine(),
        "seed": SEED,
        "figures": found.figures,
        "bars": BARS,
        "facts": found.facts,
        "outcomes": found.outcomes,
        "unexpected": found.unexpected,
        "samples": rows(found.samples, _ROWS_WRITTEN),
    }
    wanted.output.mkdir(exist_ok=True, parents=True)
    (wanted.output / "soak.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    _show(found)
    sys.exit(any(value > BARS[name] for name, value in found.figures.items()))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30, help="of arrivals")
    parser.add_argument("--load", type=float, default=1.5, help="in units of capacity")
    parser.add_argument("--bundle", type=Path, help="an exported bundle; by default exported anew, in int4")
    parser.add_argument("--output", type=Path, default=RESULTS, help="the folder of soak.json")
    return parser.parse_args()


async def _until_terminated(soaking: Coroutine[Any, Any, Soak]) -> Soak:
    """SIGTERM cancels the work, as SIGINT does, so that no daemon outlives it."""
    task = asyncio.ensure_future(soaking)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


def _show(found: Soak) -> None:
    console = Console(width=220)
    console.print(_table("the daemon", [shown(row) for row in rows(found.samples, _ROWS_SHOWN)]))
    for name, value in {**found.facts, **found.outcomes}.items():
        console.print(f"{name}: {value:.6g}" if isinstance(value, float) else f"{name}: {value}")
    for what in found.unexpected:
        console.print(f"unexpected: {what}", markup=False)
    table = Table("", "value", "bar", "")
    for name, value in found.figures.items():
        table.add_row(name, f"{value:.4g}", f"{BARS[name]:g}", "holds" if value <= BARS[name] else "BROKEN")
    console.print(table)


def _table(title: str, shown_rows: list[Row]) -> Table:
    table = Table(*shown_rows[0], title=title, title_justify="left")
    for row in shown_rows:
        table.add_row(*(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()))
    return table


if __name__ == "__main__":
    main()
