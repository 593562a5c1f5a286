"""What the system says about memory: this process, the machine, and the control group that may be smaller."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes, as of one moment."""

    available_bytes: int
    rss_bytes: int
    peak_rss_bytes: int


def read_memory(cgroup_root: Path = Path("/sys/fs/cgroup"), proc: Path = Path("/proc")) -> Memory:
    """The memory this process uses, and what it could still take: MemAvailable, or less if a cgroup says so."""
    available = [psutil.virtual_memory().available, *_cgroup_headroom(cgroup_root, proc)]
    return Memory(
        max(0, min(available)),
        psutil.Process().memory_info().rss,
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )


def _cgroup_headroom(root: Path, proc: Path) -> list[int]:
    """What each limiting cgroup (v2) above this process leaves; its own page cache counts as free."""
    try:
        line = next(each for each in (proc / "self/cgroup").read_text().splitlines() if each.startswith("0::"))
    except (OSError, StopIteration):
        return []
    group = root / line.removeprefix("0::").lstrip("/")
    headroom = []
    while group.is_relative_to(root):
        try:
            limit = (group / "memory.max").read_text().strip()
            current = int((group / "memory.current").read_text())
            stat = dict(each.split() for each in (group / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):
            limit = "max"
        if limit != "max":
            headroom.append(int(limit) - current + int(stat.get("inactive_file", 0)))
        group = group.parent
    return headroom
