"""What the kernel says of a process's memory."""

from __future__ import annotations

from pathlib import Path


def status_bytes(process: int, field: str) -> int:
    """A field of /proc/PID/status that is a size: VmHWM (the most that was resident), RssAnon, RssFile."""
    lines = Path("/proc", str(process), "status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))
