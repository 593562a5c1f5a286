"""What is known of memory at one moment: plain values, whoever read them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pressure:
    """Time lost to waiting for memory: the kernel's PSI, averaged over the last 10 s.

    Attributes:
        some: share of the time, 0 to 1, in which at least one task waited.
        full: share in which all that had work to do waited; never more than `some`.
        known: whether the kernel tells; both shares are 0 where it doesn't.
    """

    some: float
    full: float
    known: bool = True

    def worse(self, other: Pressure) -> Pressure:
        """The larger of each share."""
        return Pressure(max(self.some, other.some), max(self.full, other.full), self.known or other.known)


UNKNOWN_PRESSURE = Pressure(0.0, 0.0, known=False)


@dataclass(frozen=True, slots=True)
class Events:
    """How often control groups above this process ran into their own limits, since they exist.

    Attributes:
        high: allocations throttled beyond the soft limit.
        max: allocations that met the hard limit, and reclaimed.
        oom: allocations the hard limit had no memory left for.
        oom_kill: processes killed for that.
    """

    high: int = 0
    max: int = 0
    oom: int = 0
    oom_kill: int = 0

    def __add__(self, other: Events) -> Events:
        return Events(
            self.high + other.high, self.max + other.max, self.oom + other.oom, self.oom_kill + other.oom_kill
        )

    def since(self, before: Events) -> Events:
        """What was added to `before`; a group that went away with its counts is no event."""
        return Events(
            max(0, self.high - before.high),
            max(0, self.max - before.max),
            max(0, self.oom - before.oom),
            max(0, self.oom_kill - before.oom_kill),
        )

    @property
    def at_limit(self) -> int:
        """Times the kernel had to take memory back first."""
        return self.high + self.max

    @property
    def beyond(self) -> int:
        """Times even that was not enough."""
        return self.oom + self.oom_kill


NO_EVENTS = Events()


@dataclass(frozen=True, slots=True)
class GpuMemory:
    """One accelerator's memory in bytes."""

    free_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class Reading:
    """The memory of this process and of what surrounds it.

    Attributes:
        available_bytes: what this process can still take: the least that the machine and each control group leave.
        limit_bytes: the machine's memory, or the smallest limit of a group above this process.
        rss_bytes: what this process holds.
        peak_rss_bytes: the most it ever held.
        pressure: the machine's or the own group's, whichever is worse.
        events: of all groups above this process.
        gpus: reported, not governed: keys and values live in the machine's memory.
    """

    available_bytes: int
    limit_bytes: int
    rss_bytes: int
    peak_rss_bytes: int
    pressure: Pressure = UNKNOWN_PRESSURE
    events: Events = NO_EVENTS
    gpus: tuple[GpuMemory, ...] = ()
