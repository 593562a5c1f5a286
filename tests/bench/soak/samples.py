"""What the daemon said of itself every few seconds, and what that shows. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

# Arenas and the cache of prefixes fill up at first; what comes behind these shares of the run is compared.
_SETTLED = (0.1, 0.3)
_LAST = (0.8, 1.0)
_MIB = 1 << 20

Row = dict[str, float]


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the daemon; counts are since it started."""

    at_s: float
    rss_bytes: int
    kv_used_bytes: int
    kv_idle_bytes: int
    slots_used: int
    queued: int
    context_limit: int
    open_files: int
    threads: int
    steps: int
    finished: int
    cancelled: int
    failed: int
    preempted: int
    expired: int
    refused: int

    @property
    def fixed_bytes(self) -> int:
        """Resident memory less what the cache holds, which follows the load."""
        return self.rss_bytes - self.kv_used_bytes - self.kv_idle_bytes

    @property
    def rests(self) -> bool:
        """Whether nobody is served, or waits to be."""
        return not (self.slots_used or self.queued or self.kv_used_bytes)


def drift(samples: Sequence[Sample], size_bytes: Callable[[Sample], int]) -> float:
    """The median of a size in the last fifth of a run over that in the first settled fifth, less 1.

    Raises:
        ValueError: too few samples for both.
    """
    settled, last = (_median(_within(samples, window), size_bytes) for window in (_SETTLED, _LAST))
    return last / settled - 1


def rows(samples: Sequence[Sample], most: int) -> list[Row]:
    """At most `most` samples, each the median of its neighbours."""
    size = -(-len(samples) // most)
    groups = [samples[start : start + size] for start in range(0, len(samples), size)]
    return [
        {field.name: statistics.median_high(getattr(one, field.name) for one in group) for field in fields(Sample)}
        for group in groups
    ]


def shown(row: Row) -> Row:
    """A row as people read it: minutes and MiB."""
    plain = {name: value for name, value in row.items() if not name.endswith(("_bytes", "_s"))}
    sizes = {f"{name.removesuffix('_bytes')}, MiB": row[name] / _MIB for name in row if name.endswith("_bytes")}
    return {"minute": row["at_s"] / 60, **sizes, **plain}


def _within(samples: Sequence[Sample], window: tuple[float, float]) -> list[Sample]:
    begin_s, end_s = samples[0].at_s, samples[-1].at_s
    first_s, last_s = (begin_s + share * (end_s - begin_s) for share in window)
    return [sample for sample in samples if first_s <= sample.at_s <= last_s]


def _median(samples: Sequence[Sample], size_bytes: Callable[[Sample], int]) -> float:
    if len(samples) < 2:
        raise ValueError(f"expected two samples or more in each window, got {len(samples)}. Run longer.")
    return statistics.median(map(size_bytes, samples))
