"""`bise config`, as it is typed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bise.testing import FakeDaemon
from bise.types import Health
from bise_daemon.trial.commands import config
from bise_daemon.trial.machine import MAX_STARTS


class Device:
    """A folder with a configuration, and somebody who answers health checks."""

    def __init__(self, folder: Path, daemon: FakeDaemon) -> None:
        self.daemon = daemon
        self.path = folder / "bise.yaml"
        self.log = folder / "restarts"
        self.path.write_text(self.text(4))

    def text(self, slots: int) -> str:
        return f"bundle: /b\nlisten: {self.daemon.address}\nslots: {slots}\n"

    def candidate(self, slots: int) -> Path:
        path = self.path.with_name("candidate.yaml")
        path.write_text(self.text(slots))
        return path

    def run(self, command: str, *arguments: object, code: int = 0) -> str:
        if command in ("apply", "rollback"):
            # One of 5 slots does not come up.
            restart = f"sh -c 'echo restart >> {self.log}; ! grep -q \"slots: 5\" {self.path}'"
            arguments = (*arguments, "--restart", restart, "--reload", f"sh -c 'echo reload >> {self.log}'")
        ended = CliRunner().invoke(config, [command, *map(str, arguments), "--config", str(self.path)])
        assert ended.exit_code == code, ended.output
        return ended.output


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    with FakeDaemon() as daemon:
        yield Device(tmp_path, daemon)


def test_one_that_serves_stays_and_can_be_taken_back(device: Device) -> None:
    assert device.run("apply", device.candidate(6)) == "confirmed, restart\n"
    assert device.run("apply", device.candidate(6)) == "unchanged, none\n"
    said = json.loads(device.run("show", "--json"))
    assert said["current"] == said["good"]
    assert said["on_trial"] is False
    assert "settled" in device.run("show")

    assert device.run("rollback") == "confirmed, restart\n"
    assert device.path.read_text() == device.text(4)
    assert device.log.read_text() == "restart\nrestart\n"


def test_what_can_change_live_is_reloaded(device: Device) -> None:
    device.path.with_name("candidate.yaml").write_text(device.text(4) + "drain_timeout_s: 1\n")
    assert device.run("apply", device.path.with_name("candidate.yaml")) == "confirmed, reload\n"
    assert device.log.read_text() == "reload\n"


def test_one_that_does_not_come_up_gives_way_and_the_reason_is_kept(device: Device) -> None:
    said = json.loads(device.run("apply", device.candidate(5), "--json", code=3))
    assert said["outcome"] == "back"
    assert "ended with 1" in said["why"]
    assert device.path.read_text() == device.text(4)
    assert "it went back: `sh -c" in device.run("show")


def test_when_nothing_serves_it_ends_with_4(device: Device) -> None:
    device.daemon.set_health(Health.NOT_SERVING)
    assert "NOT_SERVING" in device.run("apply", device.candidate(6), "--window", "0.2s", code=4)
    assert device.path.read_text() == device.text(4)


def test_what_the_daemon_would_refuse_changes_nothing(device: Device) -> None:
    text = device.run("apply", device.candidate(99), code=1)
    assert "candidate.yaml:3: slots: expected a whole number" in text
    assert device.path.read_text() == device.text(4)
    assert not device.log.exists()


def test_relative_paths_start_where_it_is_put(device: Device, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "new.yaml").write_text(device.text(6).replace("/b\n", "b\n"))
    assert device.run("apply", folder / "new.yaml") == "confirmed, restart\n"


def test_without_one_before_there_is_nothing_to_go_back_to(device: Device) -> None:
    assert "expected one that was good before, got none" in device.run("rollback", code=1)


def test_starts_are_counted_for_one_whose_trial_was_cut_off(device: Device) -> None:
    device.run("served")
    device.daemon.set_health(Health.NOT_SERVING)
    device.path.with_name("bise.yaml.x.part").touch()
    # As a power cut leaves it: begun, and nobody to end it.
    from bise_daemon.trial.machine import begin
    from bise_daemon.trial.store import Store

    store = Store(device.path)
    store.carry_out(begin(store.files(), device.text(6).encode(), is_sound=True))
    for _ in range(MAX_STARTS):
        assert device.run("start") == ""
    assert f"on trial, {MAX_STARTS} starts" in device.run("show")
    assert "back to the good one: it did not serve in 3 starts" in device.run("start")
    assert device.path.read_text() == device.text(4)
    assert not list(device.path.parent.glob("*.part"))


def test_a_start_is_never_kept_from_happening(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fails)
    device.path.write_text("bundle: [")
    device.run("served")
    assert "warning: [Errno 28] No space left on device" in device.run("served")


@pytest.mark.parametrize("window", ["0s", "x", "1h", "-1s", "99999m"])
def test_a_window_is_a_time(device: Device, window: str) -> None:
    assert "expected a time such as 60s or 5m" in " ".join(
        device.run("apply", device.candidate(6), "--window", window, code=2).replace("│", " ").split()
    )
