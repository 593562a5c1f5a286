"""In which order a change reaches devices. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bise_daemon.fleet.change import Action, Change, action, changes
from bise_daemon.fleet.fleet import Device, Fleet
from bise_daemon.fleet.model import Ring
from bise_daemon.fleet.selection import selects


def place(name: str) -> float:
    """Where a device stands among all, from 0 to below 100 in hundredths: the same for its name for ever.

    The first 8 bytes of the name's SHA-256, most significant first, modulo 10,000, as a percentage.
    """
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % 10_000 / 100


def ring_of(name: str, labels: Mapping[str, str], rings: Sequence[Ring]) -> Ring | None:
    """The first ring that takes a device; None if none does."""
    here = place(name)
    return next((ring for ring in rings if here < ring.percent and selects(ring.match, labels)), None)


@dataclass(frozen=True, slots=True)
class Turn:
    """What a rollout does to one device."""

    device: Device
    action: Action
    changes: Sequence[Change]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a rollout would do.

    Attributes:
        rings: in their order, each with its devices in the file's order.
        held: devices that are in no ring, so that nothing happens to them.
        gone: devices the fleet does not have any more; nothing happens to them either.
    """

    rings: Sequence[tuple[Ring, Sequence[Turn]]]
    held: Sequence[Turn]
    gone: Sequence[str]


def plan(new: Fleet, old: Fleet | None = None) -> Plan:
    """What a rollout of `new` would do, where devices have what `old` says; without it, nothing yet."""
    before = old.devices if old else {}
    turns: dict[str | None, list[Turn]] = {}
    for device in new.devices.values():
        ring = ring_of(device.name, device.labels, new.rings)
        turns.setdefault(ring.name if ring else None, []).append(_turn(before.get(device.name), device))
    return Plan(
        [(ring, turns.get(ring.name, [])) for ring in new.rings],
        turns.get(None, []),
        [name for name in before if name not in new.devices],
    )


def _turn(old: Device | None, new: Device) -> Turn:
    if old is None:
        return Turn(new, Action.INSTALL, ())
    changed = changes(old, new)
    return Turn(new, action(changed), changed)
