"""The export at full scale: once undisturbed, and once more, killed on the way, to the same bytes."""

from __future__ import annotations

import filecmp
import multiprocessing
import os
import random
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from tests.bench import synthetic
from tests.bench.full_scale.process import status_bytes

from bise_export.pipeline import ExportOptions, export_checkpoint
from bise_export.sources.open import open_checkpoint
from bise_export.spec import ModelSpec


class Timed:
    """A progress that remembers how long each step took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._name, self._began = "", 0.0

    def step(self, name: str) -> None:
        """Begins a step, and ends the one before."""
        self.end()
        self._name, self._began = name, time.perf_counter()
        sys.stderr.write(f"{name} …\n")

    def end(self) -> None:
        """Ends the last one."""
        if self._name:
            self.seconds[self._name] = time.perf_counter() - self._began

    def warn(self, text: str) -> None:
        """To the terminal."""
        sys.stderr.write(f"{text}\n")

    def weights(self, parameters: int) -> None:
        """Nothing."""

    def advance(self, parameters: int) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True)
class Job:
    """An export: of which shapes, from where (made on demand if nowhere), to where, and how."""

    model: ModelSpec
    source: Path | None
    target: Path
    options: ExportOptions

    def start(self) -> tuple[BaseProcess, Any]:
        """Runs it in a process of its own, whose peak memory is then the export's; its figures come by the pipe."""
        spawn = multiprocessing.get_context("spawn")
        results, sender = spawn.Pipe(duplex=False)
        process = spawn.Process(target=_exported, args=(self, sender))
        process.start()
        sender.close()
        return process, results


def undisturbed(job: Job) -> Mapping[str, Any]:
    """Its figures."""
    process, results = job.start()
    figures: Mapping[str, Any] = results.recv()
    process.join()
    return figures


def killed(job: Job, whole: Path, kills: int, seed: int, expected_s: float) -> dict[str, Any]:
    """The export once more beside `whole`, killed at random moments and gone on with; its bytes must be the same.

    Args:
        whole: the bundle of an undisturbed export.
        expected_s: what one takes; the kills spread over it.

    Raises:
        SystemExit: the bytes differ, or an export ended before it was to be killed.
    """
    rng = random.Random(seed)
    moments = sorted(rng.uniform(0.02, 0.95) * expected_s for _ in range(kills))
    peak_bytes, done_s = 0, 0.0
    for moment in moments:
        process, _ = job.start()
        process.join(moment - done_s)
        if process.exitcode is not None:
            raise SystemExit(f"expected the export to run until it is killed, got exit code {process.exitcode}")
        peak_bytes = max(peak_bytes, status_bytes(process.pid or 0, "VmHWM"))
        process.kill()
        process.join()
        sys.stderr.write(f"killed after {moment - done_s:.0f} s\n")
        done_s = moment
    last = undisturbed(job)
    _check_equal(whole, job.target)
    shutil.rmtree(job.target)
    return {
        "killed after, s": [round(moment, 1) for moment in moments],
        "last run, s": sum(last["seconds"].values()),
        "peak GiB of all runs": max(peak_bytes, last["peak_bytes"]) / 2**30,
        "identical bytes": True,
    }


def _exported(job: Job, results: Any) -> None:
    progress = Timed()
    job.target.parent.mkdir(parents=True, exist_ok=True)
    if job.source is None:
        checkpoint = synthetic.generated(job.model, job.target.parent)
    else:
        checkpoint = open_checkpoint(job.source)
    bundle = export_checkpoint(checkpoint, job.target, job.options, progress)
    progress.end()
    results.send(
        {
            "seconds": progress.seconds,
            "parameters": bundle.architecture.parameters,
            "peak_bytes": status_bytes(os.getpid(), "VmHWM"),
            "bundle_bytes": sum(file.size_bytes for file in bundle.files),
        }
    )


def _check_equal(one: Path, other: Path) -> None:
    """Every file, byte by byte, and no other files."""
    names = [sorted(path.relative_to(each) for path in each.rglob("*") if path.is_file()) for each in (one, other)]
    if names[0] != names[1]:
        raise SystemExit(f"expected the files {names[0]}, got {names[1]}")
    _, different, unread = filecmp.cmpfiles(one, other, [str(name) for name in names[0]], shallow=False)
    if different or unread:
        raise SystemExit(f"expected identical bytes, got others in {different + unread}")
