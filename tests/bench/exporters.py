"""`python -m tests.bench.exporters`: one checkpoint to int4 by bise and by other exporters, time and peak memory.

A synthetic Mistral of 1.3 B parameters, 2.5 GB of bfloat16, on disk. Beside bise run onnxruntime-genai's builder, and
mobius, which does not quantize, with onnxruntime's quantizer behind it. Those take the largest magnitude of each block;
bise calibrates, searches scales and syncs to the disk in the time that is counted. Nobody verifies. The others are
installed once, with torch, in an environment of their own in the cache; three rounds take some ten minutes and 10 GB.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.bench import synthetic
from tests.bench.models import CACHE
from tests.bench.rounds import machine
from tests.bench.tables import RESULTS, show

MODEL = replace(
    synthetic.MISTRAL_SMALL_3, hidden_size=2048, intermediate_size=8192, num_layers=12, num_heads=16, num_kv_heads=4
)
ROUNDS = 3
# What is asked of theirs over bise's.
TIME_BAR, PEAK_BAR = 1.0, 4.0
PACKAGES = {
    "torch": "2.13.0",
    "transformers": "5.23.0",
    "mistral-common": "1.13.1",
    "onnxruntime": "1.31.1",
    "onnxruntime-genai": "0.18.0",
    "mobius-onnx": "0.1.0",
}
BISE, BUILDER = "bise", "onnxruntime-genai's builder"
MOBIUS, QUANTIZED = "mobius alone, float32", "mobius, then onnxruntime's quantizer"
_CHILD = Path(__file__).with_name("child.py")
_PATIENCE_S = 1800
_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}

Cost = dict[str, float]


class FailedError(Exception):
    """A contender that can't run; the message is the last it said."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A command of a contender; what it costs comes on top of the stages before.

    Attributes:
        name: of the contender, as far as this stage.
        out: the folder that it writes.
    """

    name: str
    command: tuple[str | Path, ...]
    out: Path


Contender = Callable[[Path, Path], tuple[Stage, ...]]


def bise(source: Path, scratch: Path) -> tuple[Stage, ...]:
    """As a person runs it, without measuring accuracy, which nobody else does."""
    out = scratch / "bundle"
    return (Stage(BISE, (sys.executable, "-m", "bise", "export", source, out, "--no-verify"), out),)


def builder(python: Path) -> Contender:
    """onnxruntime-genai's, in an environment that has it."""

    def stages(source: Path, scratch: Path) -> tuple[Stage, ...]:
        out = scratch / "genai"
        options = ("-i", source, "-o", out, "-p", "int4", "-e", "cpu", "-c", scratch / "cache")
        return (Stage(BUILDER, (python, "-m", "onnxruntime_genai.models.builder", *options), out),)

    return stages


def mobius(python: Path) -> Contender:
    """To float32, the one type that its attention has on the CPU, and from there to 4 bits."""

    def stages(source: Path, scratch: Path) -> tuple[Stage, ...]:
        plain, out = scratch / "float32", scratch / "int4"
        out.mkdir()
        build = ("build", "--config", source, "--dtype", "f32", "--ep", "cpu", "--runtime", "ort-genai", plain)
        models = ("--input_model", plain / "model.onnx", "--output_model", out / "model.onnx")
        kind = ("--bits", "4", "--block_size", "32", "--symmetric", "True", "--accuracy_level", "4")
        quantizer = (python, "-m", "onnxruntime.quantization.matmul_nbits_quantizer", *models, *kind)
        return Stage(MOBIUS, (python, "-m", "mobius", *build), plain), Stage(QUANTIZED, quantizer, out)

    return stages


def environment() -> Path:
    """The Python that has the other exporters.

    Raises:
        FailedError: they can't be installed.
    """
    folder = CACHE / "exporters"
    python, installed = folder / "bin" / "python", folder / "packages.json"
    if not installed.is_file() or json.loads(installed.read_text(encoding="utf-8")) != PACKAGES:
        venv.create(folder, with_pip=True, clear=True)
        pinned = [f"{name}=={version}" for name, version in PACKAGES.items()]
        pip = subprocess.run([python, "-m", "pip", "install", "--quiet", *pinned], capture_output=True, text=True)
        if pip.returncode:
            raise FailedError(f"not installed: {_last_line(pip.stderr)}")
        installed.write_text(json.dumps(PACKAGES), encoding="utf-8")
    return python


def run(rounds: int, scratch: Path) -> dict[str, Any]:
    """All figures, as plain values; an exporter that can't run has the reason instead."""
    contenders: dict[str, Contender] = {BISE: bise}
    skipped: dict[str, str] = {}
    try:
        python = environment()
        contenders |= {BUILDER: builder(python), QUANTIZED: mobius(python)}
    except FailedError as error:
        skipped = dict.fromkeys((BUILDER, QUANTIZED), str(error))
    (scratch / "checkpoint").mkdir()
    source = synthetic.write_checkpoint(MODEL, scratch / "checkpoint")
    costs: dict[str, list[Cost]] = {}
    for _ in range(rounds):
        for name, contender in contenders.items():
            if name not in skipped:
                try:
                    for stage, cost in _measured(contender, source, scratch):
                        costs.setdefault(stage, []).append(cost)
                except FailedError as error:
                    skipped[name] = str(error)
    table = {name: _summary(found) for name, found in costs.items() if name not in skipped}
    return {
        "what": "a Mistral of 1.3 B parameters, from bfloat16 to int4 in blocks of 32; medians of interleaved rounds",
        "machine": machine(("bise", "numpy")) | {"others": PACKAGES},
        "rounds": costs,
        "table": table,
        "skipped": skipped,
        "ratios": {
            f"{figure} of {name} / bise's": table[name][column] / table[BISE][column]
            for name in (BUILDER, QUANTIZED)
            if name in table
            for figure, column in (("time", "seconds"), ("peak", "peak GiB"))
        },
        "bars": {
            f"{figure} of {name} / bise's": bar
            for name in (BUILDER, QUANTIZED)
            for figure, bar in (("time", TIME_BAR), ("peak", PEAK_BAR))
        },
    }


def _measured(contender: Contender, source: Path, scratch: Path) -> list[tuple[str, Cost]]:
    """What each stage has cost by its end."""
    found: list[tuple[str, Cost]] = []
    total = {"seconds": 0.0, "CPU s": 0.0, "peak GiB": 0.0}
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        for stage in contender(source, Path(folder)):
            os.sync()  # what others wrote is not to be waited for
            cost = _cost(stage)
            print(f"{stage.name}: {cost['seconds']:.1f} s, {cost['peak GiB']:.2f} GiB", file=sys.stderr)
            total = {
                "seconds": total["seconds"] + cost["seconds"],
                "CPU s": total["CPU s"] + cost["CPU s"],
                "peak GiB": max(total["peak GiB"], cost["peak GiB"]),
            }
            written_bytes = sum(path.stat().st_size for path in stage.out.rglob("*") if path.is_file())
            found.append((stage.name, total | {"output GB": written_bytes / 1e9}))
    return found


def _cost(stage: Stage) -> Cost:
    ran = subprocess.run(
        [sys.executable, _CHILD, *stage.command],
        capture_output=True,
        text=True,
        env=os.environ | _OFFLINE,
        timeout=_PATIENCE_S,
        check=True,
    )
    cost: Cost = json.loads(ran.stdout)
    if cost["exit"]:
        raise FailedError(f"exit status {cost['exit']:.0f}: {_last_line(ran.stderr)}")
    return cost


def _summary(costs: list[Cost]) -> Mapping[str, float]:
    seconds = [cost["seconds"] for cost in costs]
    medians = {name: statistics.median(cost[name] for cost in costs) for name in costs[0]}
    return medians | {"least s": min(seconds), "most s": max(seconds)}


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1]


def main() -> None:
    """Runs it, prints the figures and keeps them."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.exporters", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--scratch", type=Path, help="where checkpoint and outputs go for the time of the run: 10 GB")
    parser.add_argument("--out", type=Path, default=RESULTS / "exporters.json", help="a JSON file for the figures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        result = run(options.rounds, Path(scratch))
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    show("exporters", result)


if __name__ == "__main__":
    main()
