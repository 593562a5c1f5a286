"""`python -m tests.bench.full_scale`: Mistral Small 3's shapes from checkpoint to chat, under a ceiling on memory.

Exports a synthetic checkpoint to int4 with an int8 cache, serves the bundle through the daemon, and says what each part
took. The checkpoint is made on demand; `--on-disk` writes it first (48 GB). The bundle of all 40 layers takes 13 GB of
disk, and serving it 14 GB of memory. `--layers 2` tries it small.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from tests.bench import synthetic
from tests.bench.rounds import machine

from bise import Client
from bise_export.budget import parse_size
from bise_export.pipeline import ExportOptions, export_checkpoint
from bise_export.sources.open import open_checkpoint
from bise_export.spec import ModelSpec

QUESTION = [{"role": "user", "content": "The heating stays cold and the pump hums. What should I look at first?"}]
THREADS = 2
# What the issue asks of all 40 layers on two cores: bytes, minutes, bytes.
BARS = {"peak GiB": 4.0, "minutes": 25.0, "bundle GB": 13.3, "share of bandwidth": 0.75}
_READ_BYTES = 1 << 30
_READS = 5


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


def exported(model: ModelSpec, source: Path | None, target: Path, options: ExportOptions, results: Any) -> None:
    """The export, in a process of its own, whose peak memory is then the export's."""
    progress = Timed()
    checkpoint = synthetic.generated(model, target.parent) if source is None else open_checkpoint(source)
    bundle = export_checkpoint(checkpoint, target, options, progress)
    progress.end()
    results.send(
        {
            "seconds": progress.seconds,
            "parameters": bundle.architecture.parameters,
            "peak_bytes": _status_bytes("self", "VmHWM"),
            "bundle_bytes": sum(file.size_bytes for file in bundle.files),
            "read_bytes_per_token": sum(each.bytes for each in bundle.quantization.classes if each.name != "embedding"),
        }
    )


def served(folder: Path, tokens: int) -> dict[str, float]:
    """The bundle, loaded twice by the daemon (its first start measures the device), and one chat."""
    with tempfile.TemporaryDirectory() as scratch:
        address = f"unix://{scratch}/bise.sock"
        # Random weights repeat themselves, and guessing would come true as it never does in a real answer.
        config = Path(scratch, "bise.yaml")
        config.write_text("draft_tokens: 0\n", encoding="utf-8")
        command = [sys.executable, "-m", "bise", "serve", "--bundle", str(folder), "--listen", address]
        limits = ["--config", str(config), "--threads", str(THREADS), "--slots", "1", "--context", "2048"]
        found: dict[str, float] = {}
        for start in ("first", "second"):
            began = time.perf_counter()
            process = subprocess.Popen([*command, *limits])
            try:
                with Client(address, timeout=600) as client:
                    client.wait_until_serving(timeout=600)
                    found[f"{start} load s"] = time.perf_counter() - began
                    if start == "second":
                        found |= _chat(client, tokens)
                        found |= {
                            "daemon peak GiB": _status_bytes(str(process.pid), "VmHWM") / 2**30,
                            "daemon anonymous GiB": _status_bytes(str(process.pid), "RssAnon") / 2**30,
                            "swapped GiB": psutil.swap_memory().used / 2**30,
                        }
            finally:
                process.terminate()
                process.wait()
    return found


def _chat(client: Client, tokens: int) -> dict[str, float]:
    result = client.chat(QUESTION, max_tokens=tokens, ignore_eos=True)
    return {
        "prompt tokens": result.usage.prompt_tokens,
        "first token s": result.timings.first_token_ms / 1e3,
        "tokens/s": result.timings.tokens_per_second,
    }


def bandwidth() -> float:
    """Bytes a second that all threads together read from memory, the best of some."""
    values = [np.ones(_READ_BYTES // 4, np.float32) for _ in range(THREADS)]
    best = 0.0
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in range(_READS):
            began = time.perf_counter()
            list(pool.map(np.max, values))
            best = max(best, THREADS * _READ_BYTES / (time.perf_counter() - began))
    return best


def run(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """All figures, as plain values."""
    model = replace(synthetic.MISTRAL_SMALL_3, num_layers=options.layers)
    source = None
    if options.on_disk:
        (scratch / "checkpoint").mkdir()
        source = synthetic.write_checkpoint(model, scratch / "checkpoint")
    chosen = ExportOptions(
        block_size=options.block_size,
        vocabulary=options.vocabulary,
        kv="int8",
        verify=False,
        max_memory_bytes=parse_size(options.max_memory, "--max-memory"),
        threads=THREADS,
    )
    spawn = multiprocessing.get_context("spawn")
    results, sender = spawn.Pipe(duplex=False)
    process = spawn.Process(target=exported, args=(model, source, scratch / "bundle", chosen, sender))
    process.start()
    sender.close()
    export: Mapping[str, Any] = results.recv()
    process.join()
    speed = bandwidth()
    serving = served(scratch / "bundle", options.tokens)
    writing_s = next(seconds for name, seconds in export["seconds"].items() if name.startswith("writing"))
    return {
        "what": f"Mistral Small 3's shapes, {options.layers} layers, int4 block {options.block_size}, int8 cache",
        "machine": machine(("bise", "onnxruntime", "numpy")),
        "export": {
            **{f"{name}, s": seconds for name, seconds in export["seconds"].items()},
            "minutes": sum(export["seconds"].values()) / 60,
            "M weights/s, writing": export["parameters"] / writing_s / 1e6,
            "peak GiB": export["peak_bytes"] / 2**30,
            "ceiling GiB": parse_size(options.max_memory, "--max-memory") / 2**30,
            "bundle GB": export["bundle_bytes"] / 1e9,
        },
        "serving": {
            **serving,
            "memory GB/s": speed / 1e9,
            "share of bandwidth": serving["tokens/s"] * export["read_bytes_per_token"] / speed,
        },
        "bars": BARS,
    }


def _status_bytes(process: str, field: str) -> int:
    lines = Path("/proc", process, "status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def main() -> None:
    """Runs it and prints the figures; the scratch folder goes in the end."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.full_scale", description=__doc__)
    parser.add_argument("--layers", type=int, default=synthetic.MISTRAL_SMALL_3.num_layers)
    parser.add_argument("--max-memory", default="4GiB")
    parser.add_argument("--block-size", type=int, default=128)
    parser.add_argument("--vocabulary", choices=("int4", "int8"), default="int4")
    parser.add_argument("--tokens", type=int, default=32, help="of the chat's answer")
    parser.add_argument("--on-disk", action="store_true", help="write the checkpoint first, instead of making it up")
    parser.add_argument("--scratch", type=Path, help="where bundle and checkpoint go for the time of the run")
    parser.add_argument("--out", type=Path, help="a JSON file for the figures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        result = run(options, Path(scratch))
    text = json.dumps(result, indent=1)
    if options.out is not None:
        options.out.write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
