"""What is said to a service manager, over its real socket."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from bise_daemon.systemd import ManagerError, ServiceManager


@pytest.fixture(params=["path", "abstract"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A socket as systemd's, and its name as the environment has it."""
    address = str(tmp_path / "notify") if request.param == "path" else f"@bise-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(address.replace("@", "\0", 1))
        listening.settimeout(5)
        yield listening, address


def test_each_turn_of_a_life_is_one_message(listener: tuple[socket.socket, str]) -> None:
    listening, address = listener
    manager = ServiceManager(address)
    manager.loading("Loading m:\nproving", 1.5)
    manager.ready("Serving m")
    manager.alive()
    manager.reloading()
    manager.stopping("Draining", 2)
    told = [listening.recv(4096).decode().split("\n") for _ in range(5)]
    assert told[0] == ["EXTEND_TIMEOUT_USEC=1500000", "STATUS=Loading m: proving"]
    assert told[1] == ["READY=1", "STATUS=Serving m"]
    assert told[2] == ["WATCHDOG=1"]
    assert told[3][0] == "RELOADING=1"
    assert told[3][1].removeprefix("MONOTONIC_USEC=").isdigit()
    assert told[4] == ["STOPPING=1", "EXTEND_TIMEOUT_USEC=2000000", "STATUS=Draining"]


def test_the_environment_is_emptied_so_that_children_say_nothing(tmp_path: Path) -> None:
    environment = {
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
        "WATCHDOG_USEC": "2500000",
        "WATCHDOG_PID": str(os.getpid()),
        "LANG": "C",
    }
    assert ServiceManager.from_environment(environment).watchdog_s == 2.5
    assert environment == {"LANG": "C"}


@pytest.mark.parametrize("environment", [{}, {"WATCHDOG_USEC": "2500000", "WATCHDOG_PID": "1"}])
def test_where_nobody_watches_nothing_is_fed(environment: dict[str, str]) -> None:
    assert ServiceManager.from_environment(environment).watchdog_s is None


@pytest.mark.parametrize(
    "environment", [{"NOTIFY_SOCKET": "notify"}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "0"}]
)
def test_an_environment_that_makes_no_sense_is_refused(environment: dict[str, str]) -> None:
    with pytest.raises(ManagerError, match=r"expected .*, got .* Unset it"):
        ServiceManager.from_environment(environment)


def test_a_manager_that_is_gone_costs_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    manager = ServiceManager(str(tmp_path / "nobody"))
    with caplog.at_level(logging.WARNING):
        manager.alive()
        manager.ready("Serving m")
    assert len(caplog.messages) == 1


def test_a_manager_that_does_not_read_holds_nobody_up(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(address)
        manager = ServiceManager(address)
        for _ in range(10_000):
            manager.alive()
