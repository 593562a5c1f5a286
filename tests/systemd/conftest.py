"""A machine with bise installed on it as an operator would."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bise import Client
from systemd import hooks
from systemd.machine import Machine, NoMachineError, machine, open_homes

_DROP_INS = "/run/systemd/system/bised.service.d"
CONFIG = "/etc/bise/bise.yaml"


class Device:
    """A machine with bise on it.

    Attributes:
        machine: it.
        address: of the daemon, as it is called from here.
    """

    def __init__(self, machine: Machine, always: str) -> None:
        self.machine = machine
        self.address = f"unix://{machine.root}/run/bise/bise.sock"
        self._always = always

    def systemctl(self, *arguments: str, check: bool = True) -> str:
        """What it says."""
        return self.machine.run("systemctl", *arguments, check=check)

    def set(self, *lines: str, fault: str | None = None) -> None:
        """Sets settings of the service, and a fault of `hooks`; what was set before is gone."""
        if fault is not None:
            command = f"{sys.executable} {hooks.__file__} {fault} serve --config {CONFIG}"
            lines = (*lines, "ExecStart=", f"ExecStart={command}")
        self.machine.write(f"{_DROP_INS}/test.conf", "\n".join(["[Service]", self._always, *lines, ""]))
        self.systemctl("daemon-reload")

    def configure(self, **settings: object) -> None:
        """Writes the configuration."""
        settings = {
            "bundle": "/var/lib/bise/models/default",
            "listen": "unix:///run/bise/bise.sock",
            "state_dir": "/var/lib/bise",
            "cache_dir": "/var/cache/bise",
            **settings,
        }
        self.machine.write(CONFIG, "".join(f"{name}: {value}\n" for name, value in settings.items()))

    @property
    def status(self) -> str:
        """What the daemon says of itself to systemd."""
        return self.machine.property("bised.service", "StatusText")

    @property
    def state(self) -> str:
        """As in `systemctl is-active`, or `failed: RESULT`."""
        state, result = (self.machine.property("bised.service", name) for name in ("ActiveState", "Result"))
        return f"{state}: {result}" if state == "failed" else state

    def client(self) -> Client:
        """Calls it."""
        return Client(self.address)


@pytest.fixture(scope="session")
def booted() -> Iterator[Machine]:
    """A machine; where none can be had, these tests are skipped, and the end of the run says so."""
    try:
        with machine() as booted:
            yield booted
    except NoMachineError as error:
        pytest.skip(f"NOTHING IS TESTED UNDER SYSTEMD: {error}")


@pytest.fixture(scope="session")
def installed(booted: Machine, tiny_bundle: Path) -> Machine:
    """With `bise deploy install` done, and a bundle."""
    booted.run(str(Path(sys.executable).with_name("bise")), "deploy", "install")
    shutil.copytree(tiny_bundle, booted.root / "var/lib/bise/models/default", copy_function=shutil.copy)
    return booted


@pytest.fixture
def device(installed: Machine) -> Iterator[Device]:
    """With the configuration as it was installed, and nothing running."""
    device = Device(installed, open_homes(installed))
    device.configure()
    device.set()
    yield device
    device.systemctl("stop", "bised.socket", "bised.service")
    device.systemctl("reset-failed", check=False)
