"""A fleet as its file says it is: checked as a whole, with the configuration of every device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bise_daemon.config.daemon import DaemonConfig
from bise_daemon.config.document import Bounds, Document, read_document
from bise_daemon.config.problem import ConfigError
from bise_daemon.fleet.check import Check
from bise_daemon.fleet.layers import Setting
from bise_daemon.fleet.model import Ring

# 10,000 devices with four labels are 1 MB and 150,000 keys and values, and take 2 s to read.
BOUNDS = Bounds(size_bytes=4 << 20, depth=10, nodes=1 << 18)


@dataclass(frozen=True, slots=True)
class Device:
    """One device of a fleet.

    Attributes:
        name: of the device.
        labels: its value of each label.
        settings: what is set for it by any layer, by key, in the order of the daemon's settings.
        config: what the daemon makes of them.
    """

    name: str
    labels: Mapping[str, str]
    settings: Mapping[str, Setting]
    config: DaemonConfig

    @property
    def values(self) -> dict[str, Any]:
        """What is set for it, by key."""
        return {key: setting.value for key, setting in self.settings.items()}


@dataclass(frozen=True, slots=True)
class Fleet:
    """A fleet without a problem.

    Attributes:
        devices: by name, in the file's order.
        rings: in their order.
        groups: how many devices each takes, by name.
        document: what the file says.
    """

    devices: Mapping[str, Device]
    rings: tuple[Ring, ...]
    groups: Mapping[str, int]
    document: Document

    def line(self, key: str, setting: Setting) -> int:
        """Where a setting stands in the file."""
        return self.document.line((*setting.layer.location, key))

    def origin(self, key: str, setting: Setting) -> str:
        """Who set it where, as in `group eu, fleet.yaml:12`."""
        return f"{setting.layer.name}, {self.document.path.name}:{self.line(key, setting)}"


def load_fleet(path: Path) -> Fleet:
    """The fleet in the YAML file at `path`.

    Raises:
        ConfigError: every problem of the file.
    """
    document = read_document(path, BOUNDS)
    check = Check(document)
    if check.problems:
        raise ConfigError(check.problems)
    file = check.file
    assert file is not None
    devices = {}
    for name, device in file.devices.items():
        settings, config = check.settled[name]
        assert config is not None
        devices[name] = Device(
            name, device.labels, {key: settings[key] for key in DaemonConfig.model_fields if key in settings}, config
        )
    return Fleet(devices, file.rollout.rings, {name: check.members[f"group {name}"] for name in file.groups}, document)
