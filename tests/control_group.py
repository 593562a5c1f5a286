"""A real control group for one process, with a limit that changes; needs the right to make groups."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from os import getpid
from pathlib import Path

_MOUNT = Path("/sys/fs/cgroup")
_PATIENCE_S = 5.0


class NoGroupError(OSError):
    """No group can be made here; says why not."""


@dataclass(frozen=True, slots=True)
class ControlGroup:
    """A group of its own.

    Attributes:
        version: of control groups, 1 or 2.
    """

    version: int
    _folder: Path

    def inside(self, command: Sequence[str]) -> list[str]:
        """The command, run in the group from its very start: version 1 leaves what a process has where it took it."""
        return ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self._folder / "cgroup.procs"), *command]

    def set_limit(self, limit_bytes: int) -> None:
        """Changes the limit.

        Raises:
            OSError: version 1 refuses a limit below what it can't take back. (Version 2 kills for it.)
        """
        (self._folder / _LIMITS[self.version]).write_text(str(limit_bytes))

    @property
    def kills(self) -> int:
        """Processes the kernel has killed for want of memory."""
        words = (self._folder / _KILLS[self.version]).read_text().split()
        return int(words[words.index("oom_kill") + 1])


_LIMITS = {1: "memory.limit_in_bytes", 2: "memory.max"}
_KILLS = {1: "memory.oom_control", 2: "memory.events"}


@contextmanager
def control_group() -> Iterator[ControlGroup]:
    """A group without a limit, removed when the block is left; its processes must have ended by then.

    Raises:
        NoGroupError: none can be made here.
    """
    refusals = []
    for version, parent in _places():
        group = ControlGroup(version, parent / f"bise-test-{getpid()}")
        try:
            group._folder.mkdir()
        except OSError as error:
            refusals.append(str(error))
            continue
        try:
            if (group._folder / _LIMITS[version]).exists():
                yield group
                return
            refusals.append(f"{parent}: no memory controller there")
        finally:
            _remove(group._folder)
    raise NoGroupError(f"no control group can be made: {'; '.join(refusals) or 'this machine has none'}")


def _places() -> Iterator[tuple[int, Path]]:
    """Where a group could be made.

    Below our own group in version 1, so that its limits and accounts hold as before. Version 2 has no limits below a
    group with processes: there, beside our own.
    """
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            yield 1, _MOUNT / "memory" / path.lstrip("/")
        elif number == "0":
            own = _MOUNT / path.lstrip("/")
            yield 2, own.parent if path != "/" else own


def _remove(folder: Path) -> None:
    """The kernel lets go of a group shortly after its last process ended."""
    until_s = time.monotonic() + _PATIENCE_S
    while folder.exists() and time.monotonic() < until_s:
        with suppress(OSError):
            folder.rmdir()
