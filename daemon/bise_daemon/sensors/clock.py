"""How fast the processor's cores run, and what holds them back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bise_daemon.sensors.number import read_number


@dataclass(frozen=True, slots=True)
class Clock:
    """Of all cores; None for what the machine doesn't say, as most virtual ones don't.

    Attributes:
        speed: present clocks as a share of the fastest the cores can do.
        limit: the fastest that is allowed now, as a share of the same; the kernel lowers it to cool the device.
        throttled: how often hardware has slowed cores down against heat, since boot.
    """

    speed: float | None
    limit: float | None
    throttled: int | None


def read_clock(sys: Path) -> Clock:
    """Reads cpufreq, and x86's thermal throttle counts.

    Args:
        sys: where sysfs is mounted.
    """
    cores = sorted((sys / "devices/system/cpu").glob("cpu[0-9]*"))
    most = [read_number(core / "cpufreq/cpuinfo_max_freq") for core in cores]
    counts = [
        count for core in cores if (count := read_number(core / "thermal_throttle/core_throttle_count")) is not None
    ]
    return Clock(
        _share((read_number(core / "cpufreq/scaling_cur_freq") for core in cores), most),
        _share((read_number(core / "cpufreq/scaling_max_freq") for core in cores), most),
        sum(counts) if counts else None,
    )


def _share(some: Iterator[int | None], most: list[int | None]) -> float | None:
    pairs = [(part, whole) for part, whole in zip(some, most, strict=True) if part is not None and whole]
    return sum(part for part, _ in pairs) / sum(whole for _, whole in pairs) if pairs else None
