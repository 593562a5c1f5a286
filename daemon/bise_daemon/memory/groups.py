"""Control groups of both versions: the limits above this process, and how close it is to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bise_daemon.memory.pressure import read_pressure
from bise_daemon.memory.reading import NO_EVENTS, UNKNOWN_PRESSURE, Events, Pressure


@dataclass(frozen=True, slots=True)
class Room:
    """A group's limit, and what of it is left."""

    available_bytes: int
    limit_bytes: int


@dataclass(frozen=True, slots=True)
class Groups:
    """What all groups above this process say.

    Attributes:
        rooms: of those that have a limit.
        events: the sum of their own, without those of groups below them.
        pressure: of the innermost group: whatever limit makes it wait, it shows there.
    """

    rooms: Sequence[Room]
    events: Events
    pressure: Pressure


@dataclass(frozen=True, slots=True)
class _Layout:
    """How a version of control groups names things. `folders` may hold the memory controller, below the root."""

    folders: tuple[str, ...]
    limits: tuple[str, ...]
    usage: str
    reclaimable: str
    events: Callable[[Path], Events]


def _v2_events(group: Path) -> Events:
    # The file without `.local` counts what happened further down, too: a neighbour that keeps running into its own
    # limit is none of our business. Kernels before 5.2 have nothing else.
    events = read_fields(group / "memory.events.local") or read_fields(group / "memory.events")
    return Events(events.get("high", 0), events.get("max", 0), events.get("oom", 0), events.get("oom_kill", 0))


def _v1_events(group: Path) -> Events:
    kills = read_fields(group / "memory.oom_control").get("oom_kill", 0)
    return Events(max=_number(group / "memory.failcnt") or 0, oom_kill=kills)


# Beyond memory.high the kernel stalls the group until it shrinks: to a latency budget that is a limit too. Systems that
# still keep memory in version 1 mount version 2 aside, for its tree and its pressure.
_V2 = _Layout(("unified", ""), ("memory.max", "memory.high"), "memory.current", "inactive_file", _v2_events)
_V1 = _Layout(("memory",), ("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file", _v1_events)


def read_groups(root: Path, proc: Path, machine_bytes: int, mapped_bytes: int) -> Groups:
    """Reads every group from this process's own up to the root.

    Args:
        root: where the control groups are mounted.
        proc: where the process information is mounted.
        machine_bytes: a limit from there on is none; version 1 has no other way to say "none".
        mapped_bytes: file pages this process has mapped; the kernel may count them as idle, we don't.
    """
    rooms: list[Room] = []
    events = NO_EVENTS
    pressure = UNKNOWN_PRESSURE
    for layout, path in _memberships(proc):
        top = next((top for folder in layout.folders if (top := root / folder).is_dir()), root)
        own = group = top / path.lstrip("/")
        pressure = pressure.worse(read_pressure(own / "memory.pressure"))
        while group.is_relative_to(top):
            rooms.extend(_rooms(group, layout, machine_bytes, mapped_bytes))
            events += layout.events(group)
            group = group.parent
    return Groups(rooms, events, pressure)


def read_fields(path: Path) -> dict[str, int]:
    """The numbers of a file of `name number` lines (`name: number kB` in /proc); none where it is missing."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    words = (line.split() for line in lines)
    return {word[0].rstrip(":"): int(word[1]) for word in words if len(word) > 1 and word[1].isdecimal()}


def _memberships(proc: Path) -> Iterator[tuple[_Layout, str]]:
    """Where this process stands: lines of `number:controllers:path`; version 2 has number 0 and no controllers."""
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
    except OSError:  # no control groups in this kernel
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            yield _V2, path
        elif "memory" in controllers.split(","):
            yield _V1, path


def _rooms(group: Path, layout: _Layout, machine_bytes: int, mapped_bytes: int) -> Iterator[Room]:
    """What the group leaves, if it has a limit; its idle page cache counts as free, but for what we have mapped."""
    limits = [limit for name in layout.limits if (limit := _number(group / name)) is not None]
    limit_bytes = min(limits, default=machine_bytes)
    if limit_bytes < machine_bytes and (usage_bytes := _number(group / layout.usage)) is not None:
        idle_bytes = read_fields(group / "memory.stat").get(layout.reclaimable, 0)
        yield Room(limit_bytes - usage_bytes + max(0, idle_bytes - mapped_bytes), limit_bytes)


def _number(path: Path) -> int | None:
    """The number a file holds; None for "max", and where the file is missing, as in the root group."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
