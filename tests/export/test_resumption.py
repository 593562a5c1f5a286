"""A killed export goes on where it was, to the same bytes; nothing unproved is trusted on the way."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from bise_export.pipeline import ExportOptions, export
from bise_proto.bundle import check_files, read_manifest

OPTIONS = ExportOptions(kv="int8", verify=False)

# Exports, and kills itself at the given one of all calls that write or sync; prints how many there were.
PROGRAM = """
import itertools, os, signal, sys
from pathlib import Path
from bise_export.commands import export
from typer import Typer

calls, deadly = itertools.count(1), int(sys.argv[1])

def counted(function):
    def call(*arguments):
        if next(calls) == deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments)
    return call

for name in ("write", "pwrite", "fsync", "fdatasync"):
    setattr(os, name, counted(getattr(os, name)))
app = Typer()
app.command()(export)
app([*sys.argv[2:], "--no-verify"], standalone_mode=False)
print(next(calls) - 1)
"""


class Interrupted:
    """A progress at which the person presses Ctrl-C once so many parameters are written."""

    def __init__(self, parameters=1 << 62):
        self.left, self.steps, self.warnings, self.total = parameters, [], [], 0

    def step(self, name):
        self.steps.append(name)

    def warn(self, text):
        self.warnings.append(text)

    def weights(self, parameters):
        self.total = parameters

    def advance(self, parameters):
        self.left -= parameters * self.steps[-1].startswith("writing")
        if self.left < 0:
            raise KeyboardInterrupt


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def whole(tiny_huggingface, tmp_path, quiet):
    """The files of an export that nothing interrupted."""
    export(tiny_huggingface, tmp_path / "whole", OPTIONS, quiet)
    return contents(tmp_path / "whole")


@pytest.fixture
def interrupted(tiny_huggingface, tmp_path):
    """Where an export was interrupted after about 150,000 of 330,000 parameters."""
    with pytest.raises(KeyboardInterrupt):
        export(tiny_huggingface, tmp_path / "bundle", OPTIONS, Interrupted(150_000))
    return tmp_path / "bundle"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_killed_three_times_the_bytes_are_those_of_an_uninterrupted_export(tiny_huggingface, tmp_path, seed):
    def run(deadly, target):
        command = [sys.executable, "-c", PROGRAM, str(deadly), tiny_huggingface, target]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    calls = int(run(0, tmp_path / "whole").stdout)
    rng = random.Random(seed)
    # However much was done before, norms, tables and syncs alone are more than 20 calls.
    for point in (rng.randrange(1, calls), rng.randrange(1, 20), rng.randrange(1, 20)):
        killed = run(point, tmp_path / "bundle")
        assert killed.returncode == -signal.SIGKILL
        assert not (tmp_path / "bundle").exists()
        assert {path.name for path in tmp_path.glob(".bundle.*")} <= {".bundle.partial", ".bundle.journal"}
    last = run(0, tmp_path / "bundle")
    assert last.returncode == 0, last.stderr
    assert "not used" not in last.stderr

    assert contents(tmp_path / "bundle") == contents(tmp_path / "whole")
    assert not list(tmp_path.glob(".bundle.*"))
    bundle = read_manifest(tmp_path / "bundle")
    assert len(list(check_files(tmp_path / "bundle", bundle))) == len(bundle.files)


def test_an_interrupted_export_goes_on_and_neither_calibrates_nor_writes_again(tiny_huggingface, interrupted, whole):
    again = Interrupted()
    bundle = export(tiny_huggingface, interrupted, replace(OPTIONS, threads=1), again)

    assert contents(interrupted) == whole
    assert "calibrating" not in again.steps
    assert "proving what an earlier export wrote" in again.steps
    assert again.total < bundle.architecture.parameters * 0.8
    assert again.warnings == []
    assert not list(interrupted.parent.glob(".*"))


def test_bytes_that_are_not_those_of_the_journal_are_written_again(tiny_huggingface, interrupted, whole):
    weights = interrupted.with_name(".bundle.partial") / "model.onnx.data"
    data = bytearray(weights.read_bytes())
    data[100] ^= 1
    weights.write_bytes(data)

    again = Interrupted()
    export(tiny_huggingface, interrupted, OPTIONS, again)

    assert contents(interrupted) == whole
    assert again.warnings == ["1 of its matrices are damaged and are written again, first model.embed_tokens."]


def test_a_weight_file_that_is_gone_is_written_anew(tiny_huggingface, interrupted, whole):
    shutil.rmtree(interrupted.with_name(".bundle.partial"))

    export(tiny_huggingface, interrupted, OPTIONS, Interrupted())

    assert contents(interrupted) == whole


def damage_journal(bundle):
    path = bundle.with_name(".bundle.journal")
    path.write_bytes(path.read_bytes().replace(b"kv_scales", b"kv_scalez"))


def remove_journal(bundle):
    bundle.with_name(".bundle.journal").unlink()


def touch_source(bundle):
    path = bundle.with_name("huggingface") / "model.safetensors"
    path.touch()


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        (damage_journal, "line 2 is damaged"),
        (remove_journal, "it has no journal"),
        (touch_source, "it is of another source, other options or another version of bise"),
    ],
)
def test_a_journal_that_can_not_be_trusted_is_ignored_with_a_warning(
    tiny_huggingface, interrupted, whole, change, warning
):
    change(interrupted)
    again = Interrupted()
    export(tiny_huggingface, interrupted, OPTIONS, again)

    assert contents(interrupted) == whole
    assert again.warnings == [f"what an earlier export left beside {interrupted} is not used: {warning}."]
    assert "calibrating" in again.steps


def test_other_options_start_anew(tiny_huggingface, interrupted, tmp_path, quiet):
    options = replace(OPTIONS, block_size=64)
    export(tiny_huggingface, tmp_path / "plain", options, quiet)
    export(tiny_huggingface, interrupted, options, quiet)

    assert contents(interrupted) == contents(tmp_path / "plain")
