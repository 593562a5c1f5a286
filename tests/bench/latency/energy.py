"""Energy of the processor packages, where the machine lets one read it."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

_POWERCAP = Path("/sys/class/powercap")


class EnergyMeter(Protocol):
    """Counts from when it was made."""

    def joules(self) -> float | None:
        """Since then; None when the machine doesn't say."""
        ...


class NotExposed:
    """A machine that doesn't say: most virtual ones."""

    def joules(self) -> float | None:
        """None."""
        return None


class Rapl:
    """Intel's and AMD's running average power limit counters, in microjoules, that start over at their range.

    Good for runs in which no counter goes round twice: a quarter of an hour at 250 W.
    """

    def __init__(self, zones: list[Path]) -> None:
        self._zones = {zone: (_read(zone / "energy_uj"), _read(zone / "max_energy_range_uj")) for zone in zones}

    def joules(self) -> float | None:
        """Since it was made, over all packages."""
        used = 0
        for zone, (began, most) in self._zones.items():
            now = _read(zone / "energy_uj")
            used += now - began if now >= began else now + most - began
        return used / 1e6


def energy_meter(powercap: Path = _POWERCAP) -> EnergyMeter:
    """The packages' counters if they can be read. Domains inside a package are in its own count already."""
    zones = [zone for zone in sorted(powercap.glob("intel-rapl:*")) if zone.name.count(":") == 1]
    try:
        return Rapl(zones) if zones else NotExposed()
    except OSError:  # only the superuser may read them on many systems
        return NotExposed()


def _read(path: Path) -> int:
    return int(path.read_text(encoding="ascii"))
