from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bise import Client, Health
from bise.cli import daemon_process
from bise.cli.daemon_process import DaemonFailed, DaemonProcess

FAKE_SERVE = Path(__file__).with_name("fake_serve.py")

pytestmark = pytest.mark.slow


def process(folder: Path, behaviour: str) -> DaemonProcess:
    return DaemonProcess(folder / "bundle", folder / "daemon.log", [sys.executable, str(FAKE_SERVE), behaviour])


def test_a_daemon_serves_and_ends_cleanly(tmp_path: Path) -> None:
    with process(tmp_path, "well") as daemon:
        with Client(daemon.address) as client:
            assert client.health() is Health.SERVING
        daemon.stop()
    assert not Path(daemon.address.removeprefix("unix://")).parent.exists()


def test_a_daemon_that_crashes_at_start_shows_its_log(tmp_path: Path) -> None:
    with pytest.raises(DaemonFailed, match=r"ended with exit code 1\. Its log .* ends with: the bundle is broken"):
        process(tmp_path, "crash").__enter__()


def test_a_daemon_that_ends_badly_is_told(tmp_path: Path) -> None:
    with process(tmp_path, "fail") as daemon, pytest.raises(DaemonFailed, match=r"expected exit code 0 .* got 3"):
        daemon.stop()


def test_a_daemon_that_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon_process, "_STOP_TIMEOUT_S", 0.05)
    with process(tmp_path, "deaf") as daemon, pytest.raises(DaemonFailed, match="killed it"):
        daemon.stop()


def test_an_error_inside_takes_the_daemon_along(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), process(tmp_path, "well") as daemon:
        1 / 0  # noqa: B018
    with Client(daemon.address) as client, pytest.raises(ConnectionError):
        client.health()
