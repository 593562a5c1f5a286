"""How much of the machine others took during a run: what decides whether its figures may be compared at all.

Servers suffer unequally from neighbours, so contention is no noise that evens out. While others took half to two thirds
of two cores, llama-server's steps of 10 ms took 2 to 3 s, and of a trace it answers in full on quiet cores it answered
nothing (presumably its threads wait for each other by spinning); bise answered part. That says nothing about either.
"""

from __future__ import annotations

import psutil

# Of all cores' time. The daemons of an idle system stay below a hundredth.
MOST_SHARE = 0.05


class Neighbours:
    """Counts from when it was made; this process and its children are not neighbours."""

    def __init__(self) -> None:
        self._busy_s, self._total_s, self._own_s = _times_s()

    def share(self) -> float:
        """Of all cores' time since then, what others took; 0 to 1. Time that a hypervisor took is theirs."""
        busy_s, total_s, own_s = _times_s()
        others_s = (busy_s - self._busy_s) - (own_s - self._own_s)
        return min(1.0, max(0.0, others_s / max(total_s - self._total_s, 1e-9)))


def _times_s() -> tuple[float, float, float]:
    machine = psutil.cpu_times()
    # Linux counts guests' time within the users' too.
    total_s = sum(machine) - getattr(machine, "guest", 0.0) - getattr(machine, "guest_nice", 0.0)
    idle_s = machine.idle + getattr(machine, "iowait", 0.0)
    me = psutil.Process()
    own_s = 0.0
    for process in (me, *me.children(recursive=True)):
        try:
            used = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        own_s += used.user + used.system
    return total_s - idle_s, total_s, own_s
