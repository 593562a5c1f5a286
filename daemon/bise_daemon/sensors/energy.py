"""Energy that the processor packages took, by their running average power limit (RAPL) counters."""

from __future__ import annotations

from pathlib import Path

from bise_daemon.sensors.number import read_number


class EnergyMeter:
    """Counts on where a counter starts over, as long as it is read more often than that (hours, at a device's power).

    On many systems only the superuser may read the counters; then there are none.

    Args:
        sys: where sysfs is mounted.
    """

    def __init__(self, sys: Path) -> None:
        # Domains within a package (intel-rapl:0:0) are in its own count already.
        self._zones = [zone for zone in sorted(sys.glob("class/powercap/intel-rapl:*")) if zone.name.count(":") == 1]
        self._last_uj: dict[Path, int] = {}
        self._used_uj: dict[Path, int] = {}

    def read(self) -> dict[str, float]:
        """Joules by package, since the first reading."""
        for zone in self._zones:
            if (now_uj := read_number(zone / "energy_uj")) is None:
                continue
            grown_uj = now_uj - self._last_uj.get(zone, now_uj)
            if grown_uj < 0:
                grown_uj += read_number(zone / "max_energy_range_uj") or 0
            self._used_uj[zone] = self._used_uj.get(zone, 0) + max(0, grown_uj)
            self._last_uj[zone] = now_uj
        return {f"package-{zone.name.partition(':')[2]}": used_uj / 1e6 for zone, used_uj in self._used_uj.items()}
