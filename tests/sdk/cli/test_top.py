"""The live view: its screen, its rates, and its life in a terminal."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable

import pytest
from rich.console import Console
from typer.testing import Result

from bise import MemoryLevel, PredictionError, Promises, State, Status
from bise.cli.course import Course
from bise.cli.screen import screen
from bise.testing import FakeDaemon

Run = Callable[..., Result]

BUSY = Status(
    model="m" * 60,
    model_version="3",
    daemon_version="0.1.0",
    uptime_s=3 * 86400 + 4 * 3600,
    context_limit=8192,
    slots=8,
    slots_used=5,
    queued=12,
    memory_level=MemoryLevel.TIGHT,
    rss_bytes=999_000_000,
    memory_available_bytes=999_000_000_000,
    kv_used_bytes=999_000_000,
    kv_idle_bytes=999_000_000,
    kv_budget_bytes=999_000_000_000,
    memory_pressure_some=0.25,
    refusals={"BUDGET": 14, "QUEUE_FULL": 3, "MEMORY": 2, "DRAINING": 1, "LOADING": 1, "DEADLINE": 0},
    promises={"critical": Promises(17, 1), "interactive": Promises(0, 2)},
    first_token_error=PredictionError(0.08, 0.22, 40),
    step_time_ratio_p50=1.5,
    step_time_ratio_p90=2.0,
    step_running_ms=12.3,
    requests_finished=1234,
    requests_expired=56,
    completion_tokens=500,
    steps=400,
)


def drawn(course: Course, trouble: str = "", width: int = 80) -> str:
    console = Console(width=width, color_system=None, force_terminal=True, legacy_windows=False)
    with console.capture() as capture:
        console.print(screen(course, "unix:///run/bise.sock", trouble))
    return capture.get()


def looked(*statuses: Status) -> Course:
    course = Course()
    for status in statuses:
        course.look(status)
    return course


def after(status: Status, **changes: object) -> Status:
    return Status(**{name: getattr(status, name) for name in Status.__slots__} | changes)  # type: ignore[arg-type]


def test_one_screen_says_all() -> None:
    text = drawn(looked(BUSY, after(BUSY, uptime_s=BUSY.uptime_s + 2, completion_tokens=700, steps=500)))
    for part in (
        "serving",
        "up 3 d 4 h",
        "5 of 8",
        "12 waiting",
        "tight",
        "8,192 tokens · stalls 25%",
        "999 MB in use, 999 MB idle",
        "14  BUDGET",
        "2  others",
        "50 · this one 12 ms",
        "1,234 · 56 at the deadline",
        "q quit",
    ):
        assert part in text
    assert re.search(r"tokens/s +█ +100 ", text)
    assert re.search(r"critical +17 +1 +94%", text)
    assert re.search(r"background +0 +0 +- ", text)
    assert re.search(r"first token +± 8% +± 22%", text)
    assert re.search(r"total +- +- ", text)
    assert re.search(r"step time +150% +200%", text)
    assert "DEADLINE" not in text


@pytest.mark.parametrize("width", [80, 81, 120, 200])
def test_it_fits_and_cuts_only_the_models_name(width: int) -> None:
    lines = drawn(looked(BUSY, BUSY), width=width).splitlines()
    assert len(lines) <= 22
    assert max(map(len, lines)) <= width
    assert [line for line in lines if "…" in line] == ([lines[0]] if width < 120 else [])


def test_trouble_stands_above_what_was_known_last() -> None:
    text = drawn(looked(BUSY), "there is no such socket")
    assert text.splitlines()[0].lstrip().startswith("unreachable")
    assert "there is no such socket" in text.splitlines()[1]
    assert "12 waiting" in text


def test_why_a_daemon_failed_is_told() -> None:
    assert "the disk burns" in drawn(looked(Status(state=State.FAILED, detail="the disk burns"))).splitlines()[1]


def test_before_the_first_look_there_is_a_sentence() -> None:
    assert "waiting for the daemon" in drawn(Course())
    assert "nobody" in drawn(Course(), "nobody is there")


def test_a_daemon_that_started_anew_has_no_rates_yet() -> None:
    course = looked(BUSY, after(BUSY, uptime_s=BUSY.uptime_s + 1, steps=410))
    assert list(course.stepped) == [10]
    course.look(Status(uptime_s=1))
    assert not course.stepped
    course.look(Status(uptime_s=2, steps=5))
    assert list(course.stepped) == [5]


def test_without_a_terminal_it_is_one_look(run: Run, daemon: FakeDaemon) -> None:
    told = run("top", "-a", daemon.address)
    assert told.exit_code == 0
    assert "2,048 tokens" in told.stdout


def test_nobody_there_is_an_error_for_one_look(run: Run, nobody: str) -> None:
    told = run("top", "--once", "-a", nobody)
    assert told.exit_code == 1
    assert "there is no such socket" in told.stderr


@pytest.mark.slow
def test_a_key_leaves(daemon: FakeDaemon) -> None:
    mine, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    command = [sys.executable, "-m", "bise", "top", "-a", daemon.address, "--interval", "0.1"]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        seen = b""
        while b"2,048 tokens" not in seen:
            seen += os.read(mine, 65536)
        os.write(mine, b"\x1b[A")  # an arrow is no key to leave by
        os.write(mine, b"q")
        while chunk := _read(mine):
            seen += chunk
        assert process.wait(30) == 0
    os.close(mine)
    assert b"\x1b[?1049l" in seen[-64:]  # the screen that was there before is back


def _read(descriptor: int) -> bytes:
    """What there is; nothing once the other side is closed, which Linux calls an error."""
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""
