"""Layers of settings, and what comes of them for one device. Pure.

The device's own settings go before its groups', and these before the defaults. Of two groups the *narrower* goes first:
the one whose devices are, by what both match, all among the other's. Where neither is narrower and both set a key
differently, nothing is chosen: it is a conflict. So what a device gets does not depend on the order of groups in the
file, and a group that somebody adds can't silently change devices that another group is about.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from bise_daemon.config.problem import Location
from bise_daemon.fleet.selection import Selection, narrower


@dataclass(frozen=True, slots=True)
class Layer:
    """Some settings, and where they stand.

    Attributes:
        name: as it is told: `defaults`, `group NAME`, `device NAME`.
        location: of the settings in the file.
        values: by key, as they stand there.
        checked: the same as the daemon takes them, for comparing.
        selection: whom a group is for.
    """

    name: str
    location: Location
    values: dict[str, Any]
    checked: BaseModel
    selection: Selection = field(default_factory=dict)

    def agrees(self, other: Layer, key: str) -> bool:
        """Whether both set a key to the same."""
        return bool(getattr(self.checked, key) == getattr(other.checked, key))


@dataclass(frozen=True, slots=True)
class Setting:
    """A value, and the layer that set it."""

    value: Any
    layer: Layer


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two groups that set one key differently for the same device, and neither goes first."""

    key: str
    one: Layer
    other: Layer


def settle(defaults: Layer, groups: Sequence[Layer], own: Layer) -> tuple[dict[str, Setting], list[Conflict]]:
    """The settings of one device.

    Args:
        groups: those that take the device, in any order.
        own: the device's.

    Returns:
        Settings by key, and conflicts; a key in conflict has the value of one of the two.
    """
    settings = {key: Setting(value, defaults) for key, value in defaults.values.items()}
    conflicts = []
    for key in _keys(groups):
        setting = [group for group in groups if key in group.values]
        first, *others = [
            group for group in setting if not any(narrower(other.selection, group.selection) for other in setting)
        ]
        settings[key] = Setting(first.values[key], first)
        if key not in own.values:
            conflicts += [Conflict(key, first, other) for other in others if not first.agrees(other, key)]
    settings |= {key: Setting(value, own) for key, value in own.values.items()}
    return settings, conflicts


def _keys(layers: Iterable[Layer]) -> list[str]:
    return list(dict.fromkeys(key for layer in layers for key in layer.values))
