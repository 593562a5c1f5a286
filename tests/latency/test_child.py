"""What a command cost is its own, whoever started it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CHILD = Path(__file__).parents[1] / "bench" / "child.py"
HOLDS_100_MIB = "values = bytearray(b'1') * (100 << 20)"


def cost(*command: str) -> dict[str, float]:
    ran = subprocess.run([sys.executable, CHILD, *command], capture_output=True, text=True, check=True, timeout=60)
    return json.loads(ran.stdout)


@pytest.mark.slow
def test_the_peak_is_the_commands_and_not_that_of_a_large_process_that_started_it():
    held = bytearray(b"1") * (300 << 20)
    small, large = cost(sys.executable, "-c", "pass"), cost(sys.executable, "-c", HOLDS_100_MIB)
    assert len(held) > 2**30 * large["peak GiB"]
    assert 0.09 < large["peak GiB"] - small["peak GiB"] < 0.11
    assert large["seconds"] > 0


@pytest.mark.slow
def test_processes_that_the_command_starts_count():
    command = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {HOLDS_100_MIB!r}])"
    assert cost(sys.executable, "-c", command)["peak GiB"] > 0.1


def test_a_failure_is_told():
    assert cost(sys.executable, "-S", "-c", "import sys; print('words'); sys.exit(3)")["exit"] == 3
