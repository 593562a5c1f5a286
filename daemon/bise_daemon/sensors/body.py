"""All that the device says of its own body, at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bise_daemon.sensors.clock import Clock, read_clock
from bise_daemon.sensors.energy import EnergyMeter
from bise_daemon.sensors.temperature import read_temperatures


@dataclass(frozen=True, slots=True)
class Body:
    """One reading.

    Attributes:
        celsius: by sensor.
        joules: by processor package, since the first reading.
    """

    celsius: Mapping[str, float]
    clock: Clock
    joules: Mapping[str, float]


class Sensors:
    """The device's own; some files take their driver milliseconds, so the event loop shouldn't read them.

    Args:
        sys: where sysfs is mounted.
    """

    def __init__(self, sys: Path = Path("/sys")) -> None:
        self._sys = sys
        self._energy = EnergyMeter(sys)

    def read(self) -> Body:
        """What they say now; what can't be read is left out."""
        return Body(read_temperatures(self._sys), read_clock(self._sys), self._energy.read())
