"""Temperatures: hwmon, and thermal zones where a board has nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bise_daemon.sensors.number import read_number

# Colder or hotter than this is a sensor that is not connected.
_LEAST_CELSIUS, _MOST_CELSIUS = -60.0, 200.0
_MAX_NAME_CHARS = 64


def read_temperatures(sys: Path) -> dict[str, float]:
    """Degrees Celsius by sensor, its chip's name first; the hottest of those with one name.

    Args:
        sys: where sysfs is mounted.
    """
    hottest: dict[str, float] = {}
    for name, milli in _hwmon(sys) if any(sys.glob("class/hwmon/hwmon*/temp*_input")) else _zones(sys):
        if milli is not None and _LEAST_CELSIUS <= (celsius := milli / 1e3) <= _MOST_CELSIUS:
            hottest[name] = max(celsius, hottest.get(name, celsius))
    return hottest


def _hwmon(sys: Path) -> Iterator[tuple[str, int | None]]:
    for path in sorted(sys.glob("class/hwmon/hwmon*/temp*_input")):
        label = path.with_name(path.name.replace("_input", "_label"))
        yield f"{_text(path.with_name('name'))} {_text(label)}".strip(), read_number(path)


def _zones(sys: Path) -> Iterator[tuple[str, int | None]]:
    for zone in sorted(sys.glob("class/thermal/thermal_zone*")):
        yield _text(zone / "type"), read_number(zone / "temp")


def _text(path: Path) -> str:
    """What a file says, if it is text; drivers write it, so it is cut."""
    try:
        return path.read_text(encoding="utf-8").strip()[:_MAX_NAME_CHARS]
    except (OSError, ValueError):
        return ""
