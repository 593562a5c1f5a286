"""What is different between a device's configuration and the one it had. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic_core import PydanticUndefined

from bise_daemon.config.daemon import DaemonConfig
from bise_daemon.config.live import LIVE
from bise_daemon.fleet.fleet import Device

UNSET: Any = PydanticUndefined
"""Where no layer sets a value."""


class Action(StrEnum):
    """What a device does for its changes: the most that one of them needs."""

    NONE = "none"
    RELOAD = "reload"
    RESTART = "restart"
    INSTALL = "install"


@dataclass(frozen=True, slots=True)
class Change:
    """One setting that is different.

    Attributes:
        key: of the setting.
        old, new: as layers set it; UNSET where none does.
    """

    key: str
    old: Any
    new: Any

    @property
    def is_live(self) -> bool:
        """Whether a daemon that serves can take it over."""
        return self.key in LIVE


def changes(old: Device, new: Device) -> list[Change]:
    """The settings that are different for the daemon, in its order. What is set to its default is as good as unset."""
    return [
        Change(key, old.values.get(key, UNSET), new.values.get(key, UNSET))
        for key in DaemonConfig.model_fields
        if _effective(old, key) != _effective(new, key)
    ]


def action(changed: Sequence[Change]) -> Action:
    """What a device that has a configuration does to take these over."""
    if not changed:
        return Action.NONE
    return Action.RELOAD if all(change.is_live for change in changed) else Action.RESTART


def _effective(device: Device, key: str) -> Any:
    # What a default depends on, such as the environment, is the device's and not known here: unset stays unset.
    return getattr(device.config, key) if key in device.settings else DaemonConfig.model_fields[key].default
