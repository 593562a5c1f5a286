"""What `bise fleet` says to people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bise_daemon.fleet.change import UNSET, Action, Change
from bise_daemon.fleet.fleet import Fleet
from bise_daemon.fleet.model import Ring
from bise_daemon.fleet.rendering import as_yaml
from bise_daemon.fleet.rollout import Plan, Turn

_MAX_NAMES = 6
_MAX_VALUE_CHARS = 60
_STYLES = {Action.NONE: "dim", Action.RELOAD: "green", Action.RESTART: "yellow", Action.INSTALL: "cyan"}
_WORDS = {
    Action.NONE: "unchanged",
    Action.RELOAD: "to reload",
    Action.RESTART: "to restart",
    Action.INSTALL: "to install",
}


def fleet(found: Fleet, planned: Plan) -> RenderableType:
    """A fleet without a problem: how many devices are in each group and ring."""
    sizes = _table("", "devices")
    for group in found.groups:
        sizes.add_row(Text(f"group {group}"), str(found.groups[group]), style=None if found.groups[group] else "yellow")
    for ring, turns in planned.rings:
        sizes.add_row(Text(f"ring {ring.name}"), str(len(turns)), style=None if turns else "yellow")
    if planned.held:
        sizes.add_row("in no ring", str(len(planned.held)), style="yellow")
    return Group(Text(f"{found.document.path}: {_devices(len(found.devices))}, no problem"), sizes)


def diff(planned: Plan) -> RenderableType:
    """What changes; devices with the same changes in one row each."""
    turns = [turn for _, turns in planned.rings for turn in turns] + list(planned.held)
    changed = [turn for turn in turns if turn.action is not Action.NONE]
    parts: list[RenderableType] = []
    if changed:
        parts.append(_changes(changed))
    parts.append(Text(f"{_devices(len(changed))} of {len(turns)} change" + _gone(planned)))
    return Group(*parts)


def plan(planned: Plan) -> RenderableType:
    """Rings in their order, and below them what changes."""
    rings = Table.grid(padding=(0, 2))
    for number, (ring, turns) in enumerate(planned.rings, 1):
        if ring.pause:
            rings.add_row("", Text(f"pause, until `pause` of {ring.name} is false", "yellow"))
        rings.add_row(Text(str(number), "bold"), Text.assemble((ring.name, "bold"), f"  {_takes(ring)}"))
        rings.add_row("", _to_do(turns))
        if turns:
            rings.add_row("", Text(_names(turns), "dim"))
        rings.add_row("", Text(_gate(ring)))
        rings.add_row()
    if planned.held:
        rings.add_row("", Text("in no ring, so nothing happens to them", "yellow"))
        rings.add_row("", Text(_names(planned.held), "dim"))
        rings.add_row()
    turns = [turn for _, turns in planned.rings for turn in turns]
    changed = [turn for turn in turns if turn.action in (Action.RELOAD, Action.RESTART)]
    parts: list[RenderableType] = [rings]
    if changed:
        parts.append(_changes(changed))
    parts.append(Text.assemble(f"{_devices(len(turns))}: ", _to_do(turns), _gone(planned)))
    return Group(*parts)


def _gate(ring: Ring) -> str:
    together = f"{ring.at_once} at once" if ring.at_once else "all at once"
    gate = ring.gate
    return f"{together}; {gate.window_s} s to serve; {gate.max_unserved} may fail; watched for {gate.wait_s} s"


def _changes(turns: Sequence[Turn]) -> RenderableType:
    alike: dict[str, list[Turn]] = {}
    for turn in turns:
        alike.setdefault(repr((turn.action, turn.changes)), []).append(turn)
    rows = _table("on", "setting", "was", "is", "takes effect")
    for same in alike.values():
        first = same[0]
        if first.action is Action.INSTALL:
            rows.add_row(Text(_names(same)), "all", "", "", Text("install", _STYLES[first.action]))
        for number, change in enumerate(first.changes):
            rows.add_row(
                Text(_names(same)) if number == 0 else "",
                change.key,
                _value(change.old),
                _value(change.new),
                _effect(change),
            )
        rows.add_section()
    return rows


def _effect(change: Change) -> Text:
    return Text("live", _STYLES[Action.RELOAD]) if change.is_live else Text("by a restart", _STYLES[Action.RESTART])


def _value(value: object) -> Text:
    if value is UNSET:
        return Text("unset", "dim")
    text = as_yaml(value, flow=True)
    return Text(text if len(text) <= _MAX_VALUE_CHARS else text[:_MAX_VALUE_CHARS] + "…")


def _takes(ring: Ring) -> str:
    labels = [f"{label}: {' or '.join(values)}" for label, values in ring.match.items()]
    return ", ".join([*labels, *([f"up to {ring.percent:g} %"] if ring.percent < 100 or not labels else [])])


def _to_do(turns: Sequence[Turn]) -> Text:
    counts = Counter(turn.action for turn in turns)
    done = [Text(f"{counts[each]} {_WORDS[each]}", _STYLES[each]) for each in Action if counts[each]]
    return Text(" · ").join(done) if done else Text("no device")


def _names(turns: Sequence[Turn]) -> str:
    names = [turn.device.name for turn in turns[:_MAX_NAMES]]
    return ", ".join(names) + (f" and {len(turns) - _MAX_NAMES} more" if len(turns) > _MAX_NAMES else "")


def _gone(planned: Plan) -> str:
    if not planned.gone:
        return ""
    names = ", ".join(planned.gone[:_MAX_NAMES])
    return f"; no longer in the fleet, and left as they are: {names}" + (
        ", …" if len(planned.gone) > _MAX_NAMES else ""
    )


def _devices(count: int) -> str:
    return f"{count} device" + ("" if count == 1 else "s")


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
