"""`python -m tests.bench.full_scale`: Mistral Small 3's shapes from checkpoint to chat, under a ceiling on memory.

Exports a synthetic checkpoint to int4 with an int8 cache; with `--kills 3`, once more beside it, killed at random
moments and gone on with, which must give the same bytes. Serves the bundle through the daemon, and says what each part
took. The checkpoint is made on demand; `--on-disk` writes it first (48 GB). The bundle of all 40 layers takes 13 GB of
disk (twice that with kills, or specialised), and serving it 14 GB of memory. `--layers 2` tries it small; `--bundle`
serves one that was kept.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.bench import synthetic
from tests.bench.full_scale.export import Job, killed, undisturbed
from tests.bench.full_scale.serving import bandwidth, read_bytes_per_token, served
from tests.bench.rounds import machine

from bise_export.budget import parse_size
from bise_export.pipeline import ExportOptions

THREADS = 2
RESULTS = Path(__file__).parents[1] / "results" / "full_scale.json"
# What is asked of all 40 layers on two cores: at least that share, else at most.
BARS = {
    "export": {"peak GiB": 4.0, "minutes": 25.0, "bundle GB": 13.3},
    "serving": {"share of bandwidth": 0.75, "later start, load s": 3.0, "anonymous GiB": 2.0},
}


def exported(options: argparse.Namespace, bundle: Path) -> dict[str, Any]:
    """The export's figures, as plain values; the bundle is left."""
    model = replace(synthetic.MISTRAL_SMALL_3, num_layers=options.layers)
    source = None
    if options.on_disk:
        folder = bundle.parent / "checkpoint"
        folder.mkdir()
        source = synthetic.write_checkpoint(model, folder)
    chosen = ExportOptions(
        block_size=options.block_size,
        vocabulary=options.vocabulary,
        kv="int8",
        verify=False,
        max_memory_bytes=parse_size(options.max_memory, "--max-memory"),
        threads=THREADS,
    )
    job = Job(model, source, bundle, chosen)
    found = undisturbed(job)
    minutes = sum(found["seconds"].values()) / 60
    writing_s = next(seconds for name, seconds in found["seconds"].items() if name.startswith("writing"))
    figures: dict[str, Any] = {
        "what": f"{options.layers} layers, int4 block {options.block_size}, {options.vocabulary} vocabulary, int8 KV",
        **{f"{name}, s": seconds for name, seconds in found["seconds"].items()},
        "minutes": minutes,
        "M weights/s, writing": found["parameters"] / writing_s / 1e6,
        "peak GiB": found["peak_bytes"] / 2**30,
        "ceiling GiB": parse_size(options.max_memory, "--max-memory") / 2**30,
        "bundle GB": found["bundle_bytes"] / 1e9,
    }
    if options.kills:
        again = replace(job, target=bundle.with_name(f"{bundle.name}-killed"))
        figures["killed and gone on with"] = killed(again, bundle, options.kills, options.seed, 60 * minutes)
    return figures


def serving(options: argparse.Namespace, bundle: Path, scratch: Path) -> dict[str, Any]:
    """What the daemon does with the bundle, as plain values."""
    speed = bandwidth(THREADS)
    read_bytes = read_bytes_per_token(bundle)
    figures = served(bundle, options.tokens, THREADS, options.state or scratch / "state")
    for each in figures.values():
        each["share of bandwidth"] = each["tokens/s"] * read_bytes / speed
    return {"memory GB/s": speed / 1e9, "GB a token": read_bytes / 1e9, **figures}


def main() -> None:
    """Runs what is asked for, prints the figures, and keeps those of the parts that were not run now."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.full_scale", description=__doc__)
    parser.add_argument("--layers", type=int, default=synthetic.MISTRAL_SMALL_3.num_layers)
    parser.add_argument("--max-memory", default="4GiB")
    parser.add_argument("--block-size", type=int, default=128)
    parser.add_argument("--vocabulary", choices=("int4", "int8", "graded"), default="graded")
    parser.add_argument("--kills", type=int, default=0, help="of a second export, whose bytes must be the first's")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    parser.add_argument("--tokens", type=int, default=32, help="of the chat's answer")
    parser.add_argument("--on-disk", action="store_true", help="write the checkpoint first, instead of making it up")
    parser.add_argument("--scratch", type=Path, help="where bundles and checkpoint go for the time of the run")
    parser.add_argument("--keep", type=Path, help="where the bundle goes to stay, instead; it is not served")
    parser.add_argument("--bundle", type=Path, help="one that was kept, to be served; nothing is exported")
    parser.add_argument("--state", type=Path, help="the daemon's, if the specialised weights are to stay")
    parser.add_argument("--out", type=Path, default=RESULTS, help="a JSON file for the figures")
    options = parser.parse_args()
    result = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else {}
    result |= {"what": "Mistral Small 3's shapes, 24 B parameters", "bars": BARS}
    result["machine"] = machine(("bise", "onnxruntime", "numpy"))
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        bundle = options.bundle or options.keep or Path(scratch, "bundle")
        if options.bundle is None:
            result["export"] = exported(options, bundle)
        if options.keep is None:
            result["serving"] = serving(options, bundle, Path(scratch))
    text = json.dumps(result, indent=1)
    options.out.write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
