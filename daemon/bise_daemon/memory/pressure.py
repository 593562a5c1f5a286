"""Pressure stall information, as the kernel prints it for the machine and for each control group of version 2."""

from __future__ import annotations

from pathlib import Path

from bise_daemon.memory.reading import UNKNOWN_PRESSURE, Pressure


def read_pressure(path: Path) -> Pressure:
    """Reads lines like `some avg10=1.50 avg60=0.40 avg300=0.10 total=123`; the averages are percents.

    A kernel built without PSI has no such file, one booted without it (`psi=0`) refuses to read it, and version 1 of
    control groups never had one: all of these are unknown.
    """
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return UNKNOWN_PRESSURE
    shares = {}
    for line in lines:
        kind, tenth, *_ = line.split()
        shares[kind] = float(tenth.removeprefix("avg10=")) / 100
    return Pressure(shares["some"], shares["full"])
