"""Every committed result can be read in a terminal."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from bench.tables import RESULTS, WIDTH, show

# load benches have pages of their own
SHOWN = [path.stem for path in sorted(RESULTS.glob("*.json")) if "ratios" in json.loads(path.read_text("utf-8"))]


def page(name: str, result: dict) -> str:
    console = Console(file=io.StringIO(), width=WIDTH)
    show(name, result, console)
    return console.file.getvalue()


@pytest.mark.parametrize("name", SHOWN)
def test_it_fits_and_cuts_no_word(name):
    text = page(name, json.loads((RESULTS / f"{name}.json").read_text("utf-8")))
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "…" not in text


def test_rows_of_other_figures_are_tables_of_their_own_and_many_figures_stand_below_each_other():
    many = {f"figure {number}": number + 0.5 for number in range(12)}
    result = {
        "what": "times",
        "table": {"one": {"p50": 1.0}, "two": {"p50": 2.0}, "three": many},
        "skipped": {"four": "no [such] tool"},
        "ratios": {"two / one": 2.0},
        "bars": {"two / one": 3},
    }
    lines = [" ".join(line.replace("│", " ").replace("┃", " ").split()) for line in page("bench", result).splitlines()]
    assert lines[0] == "bench: times"
    assert [lines.index(line) for line in ("p50", "one 1", "two 2", "three", "figure 11 11.5")] == sorted(
        lines.index(line) for line in ("p50", "one 1", "two 2", "three", "figure 11 11.5")
    )
    assert "four: skipped: no [such] tool" in lines
    assert lines[-1] == "two / one: 2 (bar 3)"
