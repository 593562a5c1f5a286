"""What the system says about memory: this process, the machine, and the control groups that may be smaller."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes, as of one moment."""

    available_bytes: int
    rss_bytes: int
    peak_rss_bytes: int


@dataclass(frozen=True, slots=True)
class _Layout:
    """How a version of control groups names things. `folder` is the memory controller's, below the root."""

    folder: str
    limits: tuple[str, ...]
    usage: str
    reclaimable: str


# Beyond memory.high the kernel stalls the group until it shrinks: to a latency budget that is a limit too.
_V2 = _Layout("", ("memory.max", "memory.high"), "memory.current", "inactive_file")
_V1 = _Layout("memory", ("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file")


def read_memory(cgroup_root: Path = Path("/sys/fs/cgroup"), proc: Path = Path("/proc")) -> Memory:
    """The memory this process uses, and what it could still take: MemAvailable, or less if a cgroup says so."""
    available = [psutil.virtual_memory().available, *_cgroup_headroom(cgroup_root, proc)]
    return Memory(
        max(0, min(available)),
        psutil.Process().memory_info().rss,
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )


def _cgroup_headroom(root: Path, proc: Path) -> Iterator[int]:
    """What each limiting cgroup above this process leaves; its idle page cache counts as free."""
    for layout, path in _memberships(proc):
        top = root / layout.folder
        group = top / path.lstrip("/")
        while group.is_relative_to(top):
            if (limit := _limit(group, layout)) is not None and (usage := _number(group / layout.usage)) is not None:
                yield limit - usage + _reclaimable(group, layout)
            group = group.parent


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


def _limit(group: Path, layout: _Layout) -> int | None:
    """The group's own limit; None when it has none. Version 1 spells "none" as a number beyond any machine."""
    return min((limit for name in layout.limits if (limit := _number(group / name)) is not None), default=None)


def _number(path: Path) -> int | None:
    """The number a file holds; None for "max", and where the file is missing, as in the root group."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _reclaimable(group: Path, layout: _Layout) -> int:
    try:
        lines = (group / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{layout.reclaimable} ")), 0)
