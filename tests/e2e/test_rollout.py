"""A fleet of devices that are folders here, brought its configurations by the playbook, with real Ansible."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import yaml

from bise import Client
from bise.types import Health
from bise_daemon.config.load import load_config
from e2e import box

pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]

ANSIBLE = Path(__file__).parents[2] / "deploy" / "ansible"
BIN = Path(sys.executable).parent
RINGS = {"first": ["d1"], "second": ["d2", "d3"], "third": ["d4"]}
RING_OF = {name: ring for ring, names in RINGS.items() for name in names}


class Devices:
    """Folders with a daemon each, and the fleet's file."""

    def __init__(self, folder: Path, bundle: Path) -> None:
        self.folder = folder
        self.bundle = bundle
        self.file = folder / "fleet.yaml"
        self.inventory = folder / "inventory"
        self.inventory.mkdir()
        (self.inventory / "devices").symlink_to(ANSIBLE / "inventory")
        (self.inventory / "host_vars").mkdir()
        for name in RING_OF:
            root = folder / name
            root.mkdir()
            restart = f"{sys.executable} {box.__file__} restart {root} {BIN / 'bise'}"
            (self.inventory / "host_vars" / f"{name}.yml").write_text(
                yaml.safe_dump(
                    {
                        "ansible_connection": "local",
                        "ansible_python_interpreter": sys.executable,
                        "bise_command": str(BIN / "bise"),
                        "bise_config": str(root / "bise.yaml"),
                        "bise_address": self.address(name),
                        "bise_restart": restart,
                        "bise_reload": "false",
                        "bise_become": False,
                    }
                )
            )

    def address(self, name: str) -> str:
        return f"unix://{self.folder / name / 'bise.sock'}"

    def want(
        self, *, slots: int, broken: str = "", paused: str = "", at_once: int | None = None, may_fail: int = 0
    ) -> None:
        """Writes the fleet's file: so many slots for all, a bundle that is not there for one."""
        devices = {
            name: {
                "labels": {"ring": ring},
                "config": {"listen": self.address(name), **({"bundle": "/nothing/there"} if name == broken else {})},
            }
            for name, ring in RING_OF.items()
        }
        rings = [
            {
                "name": ring,
                "match": {"ring": ring},
                "pause": ring == paused,
                "at_once": at_once,
                "gate": {"window_s": 25, "wait_s": 0, "max_unserved": may_fail},
            }
            for ring in RINGS
        ]
        fleet = {
            "labels": {"ring": list(RINGS)},
            "defaults": {"bundle": str(self.bundle), "slots": slots, "drain_timeout_s": 0},
            "devices": devices,
            "rollout": {"rings": rings},
        }
        self.file.write_text(yaml.safe_dump(fleet))

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "BISE": str(BIN / "bise"),
            "BISE_FLEET": str(self.file),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_HOME": str(self.folder / "ansible"),
            "ANSIBLE_LOCALHOST_WARNING": "0",
        }

    def roll_out(self, code: int = 0) -> str:
        done = subprocess.run(
            [BIN / "ansible-playbook", "-i", self.inventory, ANSIBLE / "rollout.yml"],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def slots(self, names: Iterable[str] = tuple(RING_OF)) -> dict[str, int]:
        """What devices are configured with; each serves."""
        found = {}
        for name in names:
            with Client(self.address(name), timeout=30.0) as client:
                assert client.wait_until_serving(timeout=30.0) is Health.SERVING
                found[name] = client.status().slots
            assert load_config(self.folder / name / "bise.yaml").slots == found[name]
        return found

    def config(self, name: str) -> dict[str, object]:
        path = self.folder / name / "bise.yaml"
        said = subprocess.run(
            [BIN / "bise", "config", "show", f"--config={path}", "--json"], capture_output=True, check=True
        ).stdout
        return dict(json.loads(said))


@pytest.fixture
def devices(tiny_bundle: Path, tmp_path: Path) -> Iterator[Devices]:
    found = Devices(tmp_path, tiny_bundle)
    try:
        yield found
    finally:
        for name in RING_OF:
            box.stop(tmp_path / name)


def test_a_fault_stops_at_its_ring_and_nobody_ends_unserved(devices: Devices) -> None:
    devices.want(slots=2)
    devices.roll_out()
    assert devices.slots() == {"d1": 2, "d2": 2, "d3": 2, "d4": 2}

    devices.want(slots=3, broken="d3")
    said = devices.roll_out(code=2)
    assert "bise_ring_second: 1 failed, 0 may: d3" in said
    assert "Of 1 that took it, 1 went back." in said
    assert devices.slots() == {"d1": 3, "d2": 2, "d3": 2, "d4": 2}
    assert "did not serve within 25 s" in str(devices.config("d3")["why"])

    devices.want(slots=3)
    devices.roll_out()
    assert devices.slots() == {"d1": 3, "d2": 3, "d3": 3, "d4": 3}


@pytest.mark.skipif(
    shutil.which("ssh") is None, reason="without ssh nobody can be out of reach: install openssh-client"
)
def test_who_is_out_of_reach_counts_as_failed(devices: Devices) -> None:
    path = devices.inventory / "host_vars" / "d2.yml"
    away = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **away}))

    devices.want(slots=2)
    assert "bise_ring_second: 1 failed, 0 may: d2" in devices.roll_out(code=2)
    assert not (devices.folder / "d4" / "bise.yaml").exists()

    devices.want(slots=2, may_fail=1)
    devices.roll_out()
    assert devices.slots(["d1", "d3", "d4"]) == {"d1": 2, "d3": 2, "d4": 2}


def test_the_inventory_has_rings_and_labels_in_order(devices: Devices) -> None:
    devices.want(slots=2, paused="third", at_once=1)
    listed = subprocess.run(
        [ANSIBLE / "inventory", "--list"], env=devices.environment, capture_output=True, text=True, check=True
    ).stdout
    said = json.loads(listed)
    assert said["bise"]["hosts"] == ["d1", "d2", "d3"]
    assert said["bise_held"]["hosts"] == ["d4"]
    assert said["bise_batch_00000"]["hosts"] == ["d1"]
    assert said["bise_batch_00001"]["hosts"] == ["d2"]
    assert said["bise_batch_00002"]["hosts"] == ["d3"]
    assert "bise_batch_00003" not in said
    assert said["bise_ring_second"]["hosts"] == ["d2", "d3"]
    assert said["_meta"]["hostvars"]["d2"] == {
        "bise_ring": "bise_ring_second",
        "bise_gate": {"window_s": 25, "wait_s": 0, "max_unserved": 0},
        "bise_labels": {"ring": "second"},
    }
