"""The export's progress on a terminal: the step, a bar with rate and time to go, and what each step took."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text


class Bar:
    """A `bise_export.pipeline.Progress` drawn by rich; use it as a context."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._finish()
        self._progress.stop()

    def step(self, name: str) -> None:
        """A new step begins."""
        self._finish()
        self._task = self._progress.add_task(name, total=None, rate="")

    def warn(self, text: str) -> None:
        """A line above the bar that stays."""
        self._progress.console.print(Text(text, style="yellow"))

    def weights(self, parameters: int) -> None:
        """So many parameters are to be gone through in this step."""
        assert self._task is not None
        self._progress.update(self._task, total=parameters)

    def advance(self, parameters: int) -> None:
        """So many more are done."""
        assert self._task is not None
        self._progress.advance(self._task, parameters)
        speed = self._progress.tasks[self._task].speed or 0.0
        self._progress.update(self._task, rate=f"{speed / 1e6:,.0f} M weights/s")

    def _finish(self) -> None:
        if self._task is not None:
            total = self._progress.tasks[self._task].total or 1
            self._progress.update(self._task, total=total, completed=total)
