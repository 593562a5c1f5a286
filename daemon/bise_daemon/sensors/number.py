"""A file of the kernel's that holds one number."""

from __future__ import annotations

from pathlib import Path


def read_number(path: Path) -> int | None:
    """The number; None where there is none: no such file, a sensor that is asleep, a driver's error."""
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
