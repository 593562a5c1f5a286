"""What the system says about memory: this process, the machine, and the control groups that may be smaller."""

from __future__ import annotations

from pathlib import Path

from bise_daemon.memory.gpu import NO_GPUS, Gpus
from bise_daemon.memory.groups import read_fields, read_groups
from bise_daemon.memory.pressure import read_pressure
from bise_daemon.memory.reading import Reading

_KIB = 1024


def read_memory(
    cgroup_root: Path = Path("/sys/fs/cgroup"), proc: Path = Path("/proc"), gpus: Gpus = NO_GPUS
) -> Reading:
    """The memory this process uses, and what it could still take: MemAvailable, or less if a cgroup says so.

    The kernel counts nearly all page cache as available, and with it weights that are mapped rather than repacked:
    taking those back would mean reading them again for every token. So file pages mapped by this process are not
    available. That also spares the cold ones among them, which the kernel does not tell apart; CPU kernels
    repack most weights and leave little mapped (SmolLM2: 55 MB, half of it libraries).

    Raises:
        OSError: `proc` has no `meminfo`: this is not Linux, or it is not mounted.
    """
    machine = {name: kib * _KIB for name, kib in read_fields(proc / "meminfo").items()}
    if "MemAvailable" not in machine or "MemTotal" not in machine:
        raise OSError(
            f"expected MemTotal and MemAvailable in {proc / 'meminfo'}, got neither or one of them. "
            "Run on Linux 3.14 or later with /proc mounted."
        )
    process = {name: kib * _KIB for name, kib in read_fields(proc / "self/status").items()}
    mapped_bytes = process.get("RssFile", 0)
    groups = read_groups(cgroup_root, proc, machine["MemTotal"], mapped_bytes)
    return Reading(
        max(0, min([machine["MemAvailable"] - mapped_bytes, *(room.available_bytes for room in groups.rooms)])),
        min([machine["MemTotal"], *(room.limit_bytes for room in groups.rooms)]),
        process.get("VmRSS", 0),
        process.get("VmHWM", 0),
        read_pressure(proc / "pressure/memory").worse(groups.pressure),
        groups.events,
        gpus.read(),
    )
