"""The promise on memory: an export takes three times the largest tensor as float32 and 300 MB, whatever the model."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from bise_proto.bundle import read_manifest
from golden import checkpoints, tiny

# 28 layers of 6 M parameters, 660 MB as float32; the largest tensor is the feed-forward's, 7 MB.
SPEC = replace(
    tiny.LLAMA,
    hidden_size=640,
    intermediate_size=2560,
    num_layers=28,
    num_heads=10,
    num_kv_heads=2,
    head_dim=64,
)
LARGEST_BYTES = 4 * SPEC.intermediate_size * SPEC.hidden_size
ALLOWED_BYTES = 3 * LARGEST_BYTES + 300_000_000

# Runs one export in a process of its own and prints the most memory it ever held, in KiB. Not by `ru_maxrss`: that
# begins with what the process held before it became this program, which is the size of the one that runs the tests.
PROGRAM = """
import re, sys
from pathlib import Path
from bise_export.commands import export
from typer import Typer
app = Typer()
app.command()(export)
app(sys.argv[1:], standalone_mode=False)
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A checkpoint of at least 600 MB; every layer repeats the same random rows, which costs no time to make."""
    folder = checkpoints.write_huggingface(tmp_path_factory.mktemp("large"), SPEC, {})
    header, end = {}, 0
    shapes = SPEC.weight_shapes()
    for name, shape in shapes.items():
        size_bytes = 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size_bytes]}
        end += size_bytes
    text = json.dumps(header).encode()
    rows = (np.random.default_rng(0).standard_normal(LARGEST_BYTES // 4) / 32).astype(np.float32)
    with (folder / "model.safetensors").open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for shape in shapes.values():
            stream.write(rows[: int(np.prod(shape))].data)
    yield folder
    shutil.rmtree(folder)


def peak_bytes(*arguments):
    run = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=True)
    return int(run.stdout.split()[-1]) * 1024


@pytest.mark.slow
def test_a_large_export_stays_within_its_bound(large, tmp_path):
    size_bytes = (large / "model.safetensors").stat().st_size
    assert size_bytes > 600e6
    assert size_bytes > 1.5 * ALLOWED_BYTES, "a process that held the checkpoint whole would be found"

    assert peak_bytes(large, tmp_path / "bundle") <= ALLOWED_BYTES
    bundle = read_manifest(tmp_path / "bundle")
    assert (bundle.quantization.precision, bundle.kv_cache.dtype) == ("int4", "int8"), "calibration was within it too"
    shutil.rmtree(tmp_path / "bundle")


@pytest.mark.slow
def test_a_low_ceiling_is_kept(large, tmp_path):
    cap_bytes = 180 << 20  # Python and its libraries are 120 of them

    uncalibrated = ("--precision", "int8", "--kv", "fp32")
    assert peak_bytes(large, tmp_path / "bundle", *uncalibrated, "--max-memory", str(cap_bytes)) <= cap_bytes
    assert not read_manifest(tmp_path / "bundle").HasField("accuracy"), "measuring would not have fit"
    shutil.rmtree(tmp_path / "bundle")
