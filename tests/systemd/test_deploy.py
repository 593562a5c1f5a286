"""`bise deploy` on a machine that runs: what it says systemd does, systemd does."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from systemd.conftest import Device
from systemd.machine import Machine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

BISE = str(Path(sys.executable).with_name("bise"))


def test_again_changes_nothing_and_ends_nobody(device: Device) -> None:
    device.systemctl("start", "bised.service")
    pid = device.machine.property("bised.service", "MainPID")
    said = device.machine.run(BISE, "deploy", "install")
    assert said.count(": unchanged\n") == 4
    assert "bise.yaml: kept as it is" in said
    assert device.machine.property("bised.service", "MainPID") == pid


def test_what_is_uninstalled_has_stopped_and_gone(device: Device) -> None:
    device.systemctl("start", "bised.socket", "bised.service")
    device.systemctl("enable", "bised.socket", "bised.service")
    try:
        said = device.machine.run(BISE, "deploy", "uninstall")
        assert said.count(": removed\n") == 4
        assert device.systemctl("is-active", "bised.service", check=False).strip() in ("inactive", "failed")
        assert left_behind(device.machine) == ["/etc/bise/bise.yaml"]  # which this test wrote
    finally:
        device.machine.run(BISE, "deploy", "install")


def left_behind(machine: Machine) -> list[str]:
    """Of all that an installation brings, links to units included."""
    found = machine.run("find", "/etc/systemd/system", "/usr/local/lib", "/etc/bise", "-name", "bise*", check=False)
    return sorted(line for line in found.splitlines() if "python" not in line and line != "/etc/bise")
