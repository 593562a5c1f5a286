"""What a page in a terminal is made of: titled sections, facts, open tables, sizes as a person says them."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def section(title: str, body: RenderableType) -> RenderableType:
    """A title, and the body set in below it."""
    return Group(Text(), Text(title, style="bold cyan"), Padding(body, (0, 0, 0, 2)))


def facts(rows: Iterable[tuple[str, str]]) -> Table:
    """Names and what is to be said of them, as text: no mark in a value is read as a style."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column()
    for name, value in rows:
        grid.add_row(Text(name), Text(value))
    return grid


def table(*columns: str) -> Table:
    """An open table; a name that ends in `>` heads a column of numbers, set to the right."""
    found = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in columns:
        found.add_column(name.rstrip(">"), justify="right" if name.endswith(">") else "left")
    return found


def size(count: float) -> str:
    """A size in bytes as a person says it: `98.3 MiB`."""
    unit = 0
    while count >= 1024 and unit < len(_UNITS) - 1:
        count, unit = count / 1024, unit + 1
    return f"{count:,.1f} {_UNITS[unit]}" if unit else f"{count:,.0f} {_UNITS[0]}"
