"""What `bise fleet --json` says, for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bise_daemon.fleet.change import UNSET, Change
from bise_daemon.fleet.fleet import Device, Fleet
from bise_daemon.fleet.model import Ring
from bise_daemon.fleet.rollout import Plan, Turn, place


def fleet(found: Fleet, planned: Plan) -> dict[str, Any]:
    """A fleet without a problem, by the sizes of its groups and rings."""
    return {
        "problems": [],
        "devices": len(found.devices),
        "groups": dict(found.groups),
        "rings": {ring.name: len(turns) for ring, turns in planned.rings},
        "held": len(planned.held),
    }


def device(found: Fleet, one: Device) -> dict[str, Any]:
    """A device's configuration, and which layer set each value."""
    return {
        "device": one.name,
        "labels": dict(one.labels),
        "config": one.values,
        "origin": {
            key: {"layer": setting.layer.name, "line": found.line(key, setting)}
            for key, setting in one.settings.items()
        },
    }


def diff(planned: Plan) -> dict[str, Any]:
    """What changes on which device; those on which nothing changes are left out."""
    turns = [turn for _, turns in planned.rings for turn in turns] + list(planned.held)
    return {
        "devices": {turn.device.name: _turn(turn) for turn in turns if turn.action != "none"},
        "gone": list(planned.gone),
    }


def plan(planned: Plan) -> dict[str, Any]:
    """Rings in their order, with their devices and what happens to each."""
    return {
        "rings": [{**_ring(ring), "devices": _turns(turns)} for ring, turns in planned.rings],
        "held": _turns(planned.held),
        "gone": list(planned.gone),
    }


def _ring(ring: Ring) -> dict[str, Any]:
    said = ring.model_dump(mode="json")
    return {key: said[key] for key in ("name", "match", "percent", "pause", "at_once", "gate")}


def _turns(turns: Sequence[Turn]) -> dict[str, Any]:
    return {
        turn.device.name: {"place": place(turn.device.name), "labels": dict(turn.device.labels), **_turn(turn)}
        for turn in turns
    }


def _turn(turn: Turn) -> dict[str, Any]:
    return {"action": str(turn.action), "changes": {change.key: _change(change) for change in turn.changes}}


def _change(change: Change) -> dict[str, Any]:
    """Without `old` or `new` where no layer sets a value: null is a value."""
    values = {"old": change.old, "new": change.new}
    return {**{when: value for when, value in values.items() if value is not UNSET}, "live": change.is_live}
