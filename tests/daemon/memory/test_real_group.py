"""A process in a real control group, whose limit is cut in half. Needs the right to make groups."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from os import getpid
from pathlib import Path

import pytest

from bise_daemon.memory.governor import Governor, MemoryLevel, Rules
from bise_daemon.memory.reading import UNKNOWN_PRESSURE, Events, Reading

_MIB = 1 << 20
_LIMIT_BYTES = 512 * _MIB
_HELD_BYTES = 64 * _MIB
_MOUNT = Path("/sys/fs/cgroup")

# Holds memory, then reads its own as often as it is asked; ends with whoever asks.
_CHILD = f"""
import json, sys
from dataclasses import asdict
from bise_daemon.memory.readers import read_memory
sys.stdin.readline()
held = bytearray(b"x") * {_HELD_BYTES}
print(flush=True)
for line in sys.stdin:
    print(json.dumps(asdict(read_memory())), flush=True)
"""


class Group:
    """A control group with one process in it.

    Args:
        limit: the file of its limit.
    """

    def __init__(self, limit: Path, child: subprocess.Popen[str]) -> None:
        self._limit = limit
        self._child = child
        (limit.parent / "cgroup.procs").write_text(str(child.pid))
        self._ask()  # memory is charged to the group its owner is in when it takes it

    def set_limit(self, limit_bytes: int) -> None:
        self._limit.write_text(str(limit_bytes))

    def read(self) -> Reading:
        """What the process reads of its memory; pressure is the whole machine's, and no matter here."""
        told = json.loads(self._ask())
        return Reading(**told | {"pressure": UNKNOWN_PRESSURE, "events": Events(**told["events"]), "gpus": ()})

    def _ask(self) -> str:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write("\n")
        self._child.stdin.flush()
        return self._child.stdout.readline()


def _places() -> Iterator[tuple[Path, str]]:
    """Where a group could be made, and what its limit would be called.

    Below our own group in version 1, so that its limits and accounts hold as before. Version 2 has no limits below a
    group with processes: there, beside our own.
    """
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            yield _MOUNT / "memory" / path.lstrip("/"), "memory.limit_in_bytes"
        elif number == "0":
            own = _MOUNT / path.lstrip("/")
            yield own.parent if path != "/" else own, "memory.max"


@pytest.fixture
def group() -> Iterator[Group]:
    """A group of 512 MiB."""
    refusals = []
    for parent, name in _places():
        folder = parent / f"bise-test-{getpid()}"
        try:
            folder.mkdir()
        except OSError as error:
            refusals.append(str(error))
            continue
        try:
            if (folder / name).exists():
                yield from _inhabited(folder / name)
                return
            refusals.append(f"{folder / name}: no memory controller there")
        except OSError as error:
            refusals.append(str(error))
        finally:
            _remove(folder)
    pytest.skip(f"NOT TESTED on a real control group, none can be made: {'; '.join(refusals) or 'no such thing here'}")


def _inhabited(limit: Path) -> Iterator[Group]:
    limit.write_text(str(_LIMIT_BYTES))
    command = [sys.executable, "-c", _CHILD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            yield Group(limit, child)
        finally:
            child.kill()


def _remove(folder: Path) -> None:
    """The kernel lets go of a group shortly after its last process ended."""
    until_s = time.monotonic() + 5
    while folder.exists() and time.monotonic() < until_s:
        with suppress(OSError):
            folder.rmdir()


@pytest.mark.slow
def test_a_real_limit_cut_in_half_is_felt_with_the_next_reading(group: Group) -> None:
    governor = Governor(Rules(bytes_per_token=1 << 10, most_tokens=1 << 18, most_context_tokens=1 << 18))
    before = group.read()
    assert before.limit_bytes == _LIMIT_BYTES
    assert _LIMIT_BYTES // 2 < before.available_bytes <= _LIMIT_BYTES - _HELD_BYTES
    assert before.rss_bytes > _HELD_BYTES
    first = governor.update(before, 0.0, 0)
    assert first.level is MemoryLevel.NORMAL
    assert first.context_limit > 0

    group.set_limit(_LIMIT_BYTES // 2)
    after = group.read()
    assert after.limit_bytes == _LIMIT_BYTES // 2
    assert after.available_bytes == pytest.approx(before.available_bytes - _LIMIT_BYTES // 2, abs=8 * _MIB)
    assert after.rss_bytes > _HELD_BYTES
    second = governor.update(after, 250.0, 0)
    assert second.level is MemoryLevel.TIGHT
    assert second.context_limit == 0

    group.set_limit(_LIMIT_BYTES)
    whole = group.read()
    assert governor.update(whole, 500.0, 0).level is MemoryLevel.TIGHT
    assert governor.update(whole, 10_500.0, 0) == first
    assert whole.events.oom_kill == before.events.oom_kill
