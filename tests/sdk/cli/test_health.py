from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from typer.testing import Result

from bise import Health, MemoryLevel, State, Status
from bise.testing import FakeDaemon

Run = Callable[..., Result]


@pytest.mark.parametrize(("health", "exit_code"), [(Health.SERVING, 0), (Health.NOT_SERVING, 1), (Health.UNKNOWN, 1)])
def test_the_exit_code_is_the_health(run: Run, health: Health, exit_code: int) -> None:
    status = Status(state=State.FAILED, detail="the engine ended", model="m", context_limit=9, slots=4, slots_used=1)
    with FakeDaemon(health=health, status=status) as daemon:
        told = run("health", "-a", daemon.address)
    assert told.exit_code == exit_code
    assert told.stdout.startswith(health.replace("_", " "))
    for detail in (daemon.address, "m", "context 9", "slots 1/4", "the engine ended"):
        assert detail in told.stdout


def test_what_is_wrong_is_in_the_first_line(run: Run) -> None:
    with FakeDaemon(status=Status(memory_level=MemoryLevel.CRITICAL)) as daemon:
        told = run("health", "-a", daemon.address)
    assert "memory critical" in told.stdout.splitlines()[0]


def test_nobody_there_is_exit_code_2(run: Run, nobody: str) -> None:
    told = run("health", "-a", nobody)
    assert told.exit_code == 2
    assert "there is no such socket" in told.stderr


def test_json_of_a_daemon(run: Run, daemon: FakeDaemon) -> None:
    told = json.loads(run("health", "-a", daemon.address, "--json").stdout)
    assert told["health"] == "serving"
    assert told["status"]["context_limit"] == 2048
    assert told["status"]["memory_level"] == "normal"
    assert told["status"]["first_token_error"] == {"p50": 0.0, "p90": 0.0, "samples": 0}


def test_json_of_nobody(run: Run, nobody: str) -> None:
    told = run("health", "-a", nobody, "--json")
    assert told.exit_code == 2
    assert json.loads(told.stdout)["health"] == "unreachable"


def test_waiting_for_a_daemon_that_serves_takes_no_time(run: Run, daemon: FakeDaemon) -> None:
    assert run("health", "-a", daemon.address, "--wait", "100").exit_code == 0


@pytest.mark.slow
def test_waiting_in_vain_is_exit_code_1(run: Run) -> None:
    with FakeDaemon(health=Health.NOT_SERVING) as daemon:
        assert run("health", "-a", daemon.address, "--wait", "0.5").exit_code == 1


def test_waiting_for_nobody_is_exit_code_2(run: Run, nobody: str) -> None:
    assert run("health", "-a", nobody, "--wait", "0.05").exit_code == 2
