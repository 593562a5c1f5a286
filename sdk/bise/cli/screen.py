"""One screen about one daemon, 80 columns wide or more: what `bise top` shows."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from bise.cli.course import Course
from bise.cli.vitals import size
from bise.types import MemoryLevel, PredictionError, State, Status

_STATE_COLOURS = {State.SERVING: "green", State.LOADING: "yellow", State.DRAINING: "yellow", State.FAILED: "red"}
_LEVEL_COLOURS = {MemoryLevel.NORMAL: "green", MemoryLevel.TIGHT: "yellow", MemoryLevel.CRITICAL: "red"}
_CLASSES = ("critical", "interactive", "background")
_SPARKS = "▁▂▃▄▅▆▇█"
_NAME_COLUMNS = 8
_FIGURE_COLUMNS = 11
# Of the panels of a row, each as high as the highest can be.
_HEIGHTS = (5, 4, 4)
_MOST_REFUSALS = 3
# A first token this far off, half of the time, makes admission too careful or too bold.
_POOR_ERROR = 0.25
_POOR_RATIO = 1.25


def screen(course: Course, address: str, trouble: str = "", keys: str = "q quit") -> RenderableType:
    """What is known of a daemon.

    Args:
        trouble: why there is no newer status; what is shown is old then.
    """
    status = course.status
    foot = Text(f"{address} · {keys}", "dim", overflow="ellipsis", no_wrap=True)
    if status is None:
        return Group(Panel(Text(trouble or "waiting for the daemon"), title="bise"), foot)
    grid = Table.grid(expand=True, padding=0)
    grid.add_column(ratio=1)
    grid.add_column(ratio=1)
    panels = (
        {"work": _work(status, course), "memory": _memory(status)},
        {"budgets": _budgets(status), "refused": _refusals(status)},
        {"predictions": _predictions(status), "requests": _requests(status)},
    )
    for height, row in zip(_HEIGHTS, panels, strict=True):
        grid.add_row(*(_panel(title, content, height) for title, content in row.items()))
    return Group(_head(status, trouble), grid, foot)


def _panel(title: str, content: RenderableType, height: int) -> Panel:
    return Panel(content, title=title, title_align="left", border_style="dim", padding=(0, 1), height=height + 2)


def _head(status: Status, trouble: str) -> RenderableType:
    state, colour = ("unreachable", "red") if trouble else (str(status.state), _STATE_COLOURS.get(status.state, "red"))
    model = Text(f"{status.model or 'no model'} {status.model_version}".strip(), "bold", overflow="ellipsis")
    line = Table.grid(expand=True, padding=(0, 1))
    line.add_column()
    line.add_column(ratio=1, no_wrap=True)
    line.add_column(justify="right", no_wrap=True)
    line.add_row(
        Text(f" {state} ", f"bold reverse {colour}"),
        model,
        Text(f"up {_duration(status.uptime_s)} · bise {status.daemon_version}", "dim"),
    )
    said = trouble or status.detail
    return Group(line, Text(said, "red", overflow="ellipsis", no_wrap=True)) if said else line


class Spark:
    """The latest of some values as a line of small bars, as many as there is room for, the highest full."""

    def __init__(self, values: Sequence[float]) -> None:
        self._values = list(values)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        shown = self._values[-options.max_width :]
        most = max(shown, default=0.0)
        steps = [round(value / most * (len(_SPARKS) - 1)) if most > 0 else 0 for value in shown]
        yield Text("".join(_SPARKS[step] for step in steps), "cyan", no_wrap=True)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(1, options.max_width)


def _pictures(*rows: tuple[str, RenderableType, Text | str]) -> Table:
    """Lines of a name, a picture, and what it shows as a figure."""
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(style="dim", width=_NAME_COLUMNS, no_wrap=True)
    table.add_column(ratio=1)
    table.add_column(width=_FIGURE_COLUMNS, no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def _work(status: Status, course: Course) -> RenderableType:
    step = f"this one {status.step_running_ms:.0f} ms" if status.step_running_ms else "idle"
    return Group(
        _pictures(
            ("slots", _bar(status.slots_used, status.slots), f"{status.slots_used} of {status.slots}"),
            ("tokens/s", Spark(course.answered), _rate(course.answered)),
            ("prompt/s", Spark(course.prompted), _rate(course.prompted)),
        ),
        _line("steps/s", f"{_rate(course.stepped)} · {step}"),
        _line("queue", f"{status.queued} waiting"),
    )


def _memory(status: Status) -> RenderableType:
    level, colour = status.memory_level, _LEVEL_COLOURS.get(status.memory_level, "red")
    held, free = status.rss_bytes, status.memory_available_bytes
    used, idle, budget = status.kv_used_bytes, status.kv_idle_bytes, status.kv_budget_bytes
    return Group(
        _pictures(("memory", _bar(held, held + free, colour), Text(str(level), f"bold {colour}"))),
        _line("", f"{size(held)} held, {size(free)} free"),
        _pictures(("cache", _bar(used + idle, budget), f"of {size(budget)}")),
        _line("", f"{size(used)} in use, {size(idle)} idle"),
        _line("context", f"{status.context_limit:,} tokens · stalls {status.memory_pressure_some:.0%}"),
    )


def _budgets(status: Status) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    for _ in range(3):
        table.add_column(justify="right")
    table.add_row("", *(Text(head, "dim") for head in ("met", "missed", "kept")))
    for name in _CLASSES:
        promises = status.promises.get(name)
        met, missed = (promises.met, promises.missed) if promises else (0, 0)
        table.add_row(name, str(met), Text(str(missed), "red" if missed else ""), _share(met, met + missed))
    return table


def _refusals(status: Status) -> RenderableType:
    counts = sorted(((count, name) for name, count in status.refusals.items() if count), reverse=True)
    if not counts:
        return Text("nobody", "dim")
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right")
    table.add_column(style="yellow")
    for count, name in counts[:_MOST_REFUSALS]:
        table.add_row(str(count), name)
    if left := counts[_MOST_REFUSALS:]:
        table.add_row(str(sum(count for count, _ in left)), "others")
    return table


def _predictions(status: Status) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(justify="right")
    table.add_column(justify="right")
    table.add_row("", Text("half", "dim"), Text("9 of 10", "dim"))
    for name, error in (("first token", status.first_token_error), ("total", status.total_error)):
        table.add_row(name, *_off(error))
    ratio = Text(f"{status.step_time_ratio_p50:.0%}", "yellow" if status.step_time_ratio_p50 > _POOR_RATIO else "")
    table.add_row("step time", ratio, f"{status.step_time_ratio_p90:.0%}")
    return table


def _off(error: PredictionError) -> tuple[Text, Text]:
    if not error.samples:
        return Text("-", "dim"), Text("-", "dim")
    return Text(f"± {error.p50:.0%}", "yellow" if error.p50 > _POOR_ERROR else ""), Text(f"± {error.p90:.0%}")


def _requests(status: Status) -> RenderableType:
    reused, prompted = status.cached_tokens, status.prompt_tokens
    return Group(
        _line("finished", f"{status.requests_finished:,} · {status.requests_expired:,} at the deadline"),
        _line("ended", f"{status.requests_cancelled:,} cancelled · {status.requests_failed:,} failed"),
        _line("reused", f"{_share(reused, reused + prompted)} of prompts' tokens"),
        _line(
            "guessed", f"{_share(status.accepted_draft_tokens, status.draft_tokens)} of {status.draft_tokens:,} right"
        ),
    )


def _line(name: str, said: str) -> Text:
    return Text.assemble((f"{name:<{_NAME_COLUMNS}} ", "dim"), said, overflow="ellipsis", no_wrap=True)


def _bar(part: float, whole: float, colour: str = "cyan") -> RenderableType:
    return ProgressBar(max(whole, 1), part, style="grey23", complete_style=colour, finished_style=colour)


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.0%}" if whole else "-"


def _rate(rates: Sequence[float]) -> str:
    return f"{rates[-1]:,.0f}" if rates else "-"


def _duration(seconds: float) -> str:
    """In its two largest units."""
    left = int(seconds)
    parts: list[str] = []
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, length)
        if count or parts or unit == "s":
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])
