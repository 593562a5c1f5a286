"""`bise fleet`, as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bise_daemon.fleet.commands import fleet
from daemon.fleet.test_fleet import EXAMPLE


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments: object, code: int = 0) -> str:
        ended = CliRunner().invoke(fleet, [str(each) for each in arguments])
        assert ended.exit_code == code, ended.output
        return ended.stdout if code == 0 else ended.output

    return run


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    path = tmp_path / "new.yaml"
    text = EXAMPLE.read_text()
    for old, new in (("slots: 2", "slots: 3"), ("timeout_s: 5", "timeout_s: 9"), ("van-0002", "van-0003")):
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    return path


def test_a_valid_file_says_who_is_where(run) -> None:
    lines = [" ".join(line.split()) for line in run("validate", EXAMPLE).splitlines()]
    assert {"group ministral 2", "ring bench 1", "ring all 4"} <= set(lines)
    assert json.loads(run("validate", EXAMPLE, "--json"))["rings"] == {"bench": 1, "tenth": 0, "all": 4}


def test_problems_are_lines_and_end_with_1(run, tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text("devices:\n  a: {config: {bundle: /b}}\n  b: 3\n")
    assert run("validate", path, code=1).startswith(f"{path}:3: devices.b: expected ")
    (problem,) = json.loads(run("plan", path, "--json", code=1))["problems"]
    assert problem["line"] == 3


def test_a_device_is_rendered(run) -> None:
    assert "slots: 2\n" in run("render", EXAMPLE, "kiosk-0002")
    assert "slots: 2  # group n100-ministral, fleet.yaml:34\n" in run("render", EXAMPLE, "kiosk-0002", "--origin")
    said = json.loads(run("render", EXAMPLE, "kiosk-0002", "--json"))
    assert said["config"]["slots"] == 2
    assert said["origin"]["slots"] == {"layer": "group n100-ministral", "line": 34}


def test_a_device_that_is_none_has_a_near_one(run) -> None:
    assert "Did you mean van-0001?" in " ".join(run("render", EXAMPLE, "van-1", code=2).replace("│", " ").split())


def test_a_diff_says_what_changes_where(run, changed: Path) -> None:
    text = run("diff", EXAMPLE, changed)
    assert "kiosk-0002" in text
    assert "live" in text
    assert "by a restart" in text
    assert "van-0001" not in text
    assert json.loads(run("diff", EXAMPLE, changed, "--json")) == {
        "devices": {
            "van-0003": {"action": "install", "changes": {}},
            "kiosk-0002": {
                "action": "restart",
                "changes": {
                    "slots": {"old": 2, "new": 3, "live": False},
                    "drain_timeout_s": {"old": 5, "new": 9, "live": True},
                },
            },
        },
        "gone": ["van-0002"],
    }


def test_a_plan_says_who_has_its_turn_when(run, changed: Path) -> None:
    text = run("plan", changed, "--since", EXAMPLE)
    assert "pause, until `pause` of all is false" in text
    assert max(len(line) for line in text.splitlines()) <= 80
    said = json.loads(run("plan", changed, "--since", EXAMPLE, "--json"))
    assert [ring["name"] for ring in said["rings"]] == ["bench", "tenth", "all"]
    last = said["rings"][-1]
    assert last["pause"] is True
    assert last["gate"] == {"window_s": 120, "wait_s": 0, "max_unserved": 2}
    assert {name: device["action"] for name, device in last["devices"].items()} == {
        "van-0001": "none",
        "van-0003": "install",
        "kiosk-0001": "none",
        "kiosk-0002": "restart",
    }


def test_nothing_that_a_file_says_is_taken_for_markup(run, tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text("devices: {a: {config: {bundle: '/[bold]b[/]'}}}\n")
    other = tmp_path / "other.yaml"
    other.write_text("devices: {a: {config: {bundle: '/[/red]'}}}\n")
    text = run("diff", path, other)
    assert "/[bold]b[/]" in text
    assert "/[/red]" in text
