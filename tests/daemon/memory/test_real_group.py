"""A process in a real control group, whose limit is cut in half. Needs the right to make groups."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from bise_daemon.memory.governor import Governor, MemoryLevel, Rules
from bise_daemon.memory.reading import UNKNOWN_PRESSURE, Events, Reading
from control_group import ControlGroup, NoGroupError, control_group

_MIB = 1 << 20
_TOKEN_BYTES = 1 << 10
_LIMIT_BYTES = 512 * _MIB
_HELD_BYTES = 64 * _MIB
# What the kernel takes for itself between two readings, which version 2 counts too.
_NOISE_BYTES = 8 * _MIB

# Holds memory, then reads its own as often as it is asked; ends with whoever asks.
_CHILD = f"""
import json, sys
from dataclasses import asdict
from bise_daemon.memory.readers import read_memory
held = bytearray(b"x") * {_HELD_BYTES}
for line in sys.stdin:
    print(json.dumps(asdict(read_memory())), flush=True)
"""


class Confined:
    """A process that reads its own memory, in a group of its own."""

    def __init__(self, group: ControlGroup, child: subprocess.Popen[str]) -> None:
        self.set_limit = group.set_limit
        self._child = child

    def read(self) -> Reading:
        """What the process reads of its memory; pressure is the whole machine's, and no matter here."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write("\n")
        self._child.stdin.flush()
        told = json.loads(self._child.stdout.readline())
        return Reading(**told | {"pressure": UNKNOWN_PRESSURE, "events": Events(**told["events"]), "gpus": ()})


@pytest.fixture
def confined() -> Iterator[Confined]:
    """Within 512 MiB."""
    try:
        with control_group() as group:
            group.set_limit(_LIMIT_BYTES)
            command = group.inside([sys.executable, "-c", _CHILD])
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
                try:
                    yield Confined(group, child)
                finally:
                    child.kill()
    except NoGroupError as error:
        pytest.skip(f"NOT TESTED on a real control group: {error}")


@pytest.mark.slow
def test_a_real_limit_cut_in_half_is_felt_with_the_next_reading(confined: Confined) -> None:
    governor = Governor(Rules(bytes_per_token=_TOKEN_BYTES, most_tokens=1 << 18, most_context_tokens=1 << 18))
    before = confined.read()
    assert before.limit_bytes == _LIMIT_BYTES
    assert _LIMIT_BYTES // 2 < before.available_bytes <= _LIMIT_BYTES - _HELD_BYTES
    assert before.rss_bytes > _HELD_BYTES
    first = governor.update(before, 0.0, 0)
    assert first.level is MemoryLevel.NORMAL
    assert first.context_limit > 0

    confined.set_limit(_LIMIT_BYTES // 2)
    after = confined.read()
    assert after.limit_bytes == _LIMIT_BYTES // 2
    assert after.available_bytes == pytest.approx(before.available_bytes - _LIMIT_BYTES // 2, abs=_NOISE_BYTES)
    assert after.rss_bytes > _HELD_BYTES
    second = governor.update(after, 250.0, 0)
    assert second.level is MemoryLevel.TIGHT
    assert second.context_limit == 0

    confined.set_limit(_LIMIT_BYTES)
    whole = confined.read()
    assert governor.update(whole, 500.0, 0).level is MemoryLevel.TIGHT
    last = governor.update(whole, 10_500.0, 0)
    assert last.level is MemoryLevel.NORMAL
    assert last.kv_budget_tokens == pytest.approx(first.kv_budget_tokens, abs=_NOISE_BYTES // _TOKEN_BYTES)
    assert whole.events.oom_kill == before.events.oom_kill
