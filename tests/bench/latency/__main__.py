"""`python -m tests.bench.latency`: solo times, then each load on each server in turn; writes results/latency.*."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bise_export.pipeline import ExportOptions
from bise_export.prompts import token_prompts
from bise_proto.bundle import read_manifest

from .. import models
from ..rounds import machine
from . import bise_server, llama_server
from .energy import energy_meter
from .goodput import summarize
from .llama_binary import find_binary
from .neighbours import MOST_SHARE, Neighbours
from .plot import goodput_svg
from .runner import replay
from .server import Server
from .shapes import SHAPES, Allowance, Budget, Shape, Solo, largest_context
from .solo import budgets, capacity_per_s, solo_times
from .trace import Call, Encode, Variant, arrivals_ms, calls, drafts

RESULTS = Path(__file__).parents[1] / "results"
SLOTS, THREADS = 8, 2
SEED = "bise"
# Arrivals of one run end here; what is still being answered is waited for.
LONGEST_MS = 180e3

Make = Callable[[], Server]
Row = dict[str, Any]

# Steps of at most this many tokens are how llama-server can be kept from holding streams up for long: 64 take about
# the 50 ms of a per-token budget where the cost model was measured.
TUNED_BATCH_TOKENS = 64


def main() -> None:
    """Measures, prints, and writes the results unless told where else."""
    wanted = _arguments()
    folder = wanted.bundle or models.bundle(ExportOptions(precision="int4"))
    shapes = [shape.scaled(wanted.scale) for shape in SHAPES]
    contenders, missing = _contenders(wanted.only, folder, largest_context(shapes))
    for name, why in missing.items():
        Console().print(f"{name} is left out: {why}")
    measuring = _measure(contenders, shapes, _encoder(folder), wanted.loads, wanted.requests)
    result = asyncio.run(_until_terminated(measuring))
    result = {
        "what": f"requests that met their budgets, {wanted.requests} a run, lengths times {wanted.scale:g}",
        "machine": machine(),
        "seed": SEED,
        "scale": wanted.scale,
        "shapes": [asdict(shape) for shape in shapes],
        "allowance": asdict(Allowance()),
        "missing": missing,
        **result,
    }
    _show(result["runs"])
    if not result["comparable"] and wanted.output == RESULTS:
        sys.exit(
            f"other processes took more than {MOST_SHARE:.0%} of the CPU in some runs, so they can't be compared and "
            "nothing is written. Run it on a quiet machine, or give another folder as --output."
        )
    wanted.output.mkdir(exist_ok=True, parents=True)
    (wanted.output / "latency.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (wanted.output / "latency.svg").write_text(_plot(result), encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.latency", description=__doc__)
    parser.add_argument("--loads", type=float, nargs="+", default=[0.5, 1, 2, 4], help="in units of bise's capacity")
    parser.add_argument("--requests", type=int, default=60, help="offered in each run")
    parser.add_argument("--scale", type=float, default=1 / 8, help="of all lengths; 1 is full size")
    parser.add_argument("--only", nargs="+", choices=list(_SETTINGS), default=list(_SETTINGS))
    parser.add_argument("--bundle", type=Path, help="an exported int4 bundle; by default exported anew")
    parser.add_argument("--output", type=Path, default=RESULTS, help="the folder of latency.json and latency.svg")
    return parser.parse_args()


def _bise(name: str, folder: Path, context_tokens: int) -> Make:
    settings = bise_server.Settings(folder, SLOTS, context_tokens, THREADS)
    return lambda: bise_server.BiseServer(name, settings)


def _llama(batch_tokens: int) -> Callable[[str, Path, int], Make]:
    def make(name: str, folder: Path, context_tokens: int) -> Make:
        binary = find_binary()
        settings = llama_server.Settings(models.gguf("Q4_0"), SLOTS, context_tokens, THREADS, batch_tokens)
        return lambda: llama_server.LlamaServer(name, binary, settings)

    return make


_SETTINGS: dict[str, Callable[[str, Path, int], Make]] = {
    "bise": _bise,
    "llama-server": _llama(llama_server.DEFAULT_BATCH_TOKENS),
    f"llama-server -b {TUNED_BATCH_TOKENS}": _llama(TUNED_BATCH_TOKENS),
}


def _contenders(names: Sequence[str], folder: Path, context_tokens: int) -> tuple[dict[str, Make], dict[str, str]]:
    """How to make each server, and why some can't be."""
    found: dict[str, Make] = {}
    missing: dict[str, str] = {}
    for name in names:
        try:
            found[name] = _SETTINGS[name](name, folder, context_tokens)
        except FileNotFoundError as error:
            missing[name] = str(error)
    return found, missing


def _encoder(folder: Path) -> Encode:
    tokenizer = read_manifest(folder).tokenizer
    return lambda texts: token_prompts(folder, tokenizer, texts)


async def _until_terminated(measuring: Coroutine[Any, Any, Row]) -> Row:
    """SIGTERM cancels the work, as SIGINT does, so that no server outlives the bench."""
    task = asyncio.ensure_future(measuring)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


async def _measure(
    contenders: dict[str, Make], shapes: Sequence[Shape], encode: Encode, loads: Sequence[float], requests: int
) -> Row:
    solos: dict[str, dict[Variant, Solo]] = {}
    solo_others: dict[str, float] = {}
    for name, make in contenders.items():
        async with _running(make()) as server:
            neighbours = Neighbours()
            solos[name] = await solo_times(server, shapes, encode, SEED)
            solo_others[name] = neighbours.share()
    capacity = capacity_per_s(shapes, next(iter(solos.values())))
    allowed = budgets(shapes, list(solos.values()), Allowance())
    asked = drafts(shapes, requests, SEED)
    runs: list[Row] = []
    for load in loads:
        times_ms = arrivals_ms(requests, 1e3 / (capacity * load), LONGEST_MS, SEED)
        trace = calls(asked, times_ms, encode, allowed)
        for name, make in contenders.items():
            runs.append({"server": name, "load": load, **await _run(make(), trace)})
            _show(runs[-1:])
    return {
        "capacity_requests_per_s": capacity,
        "capacity_of": next(iter(solos)),
        "solo": {name: _by_variant(times) for name, times in solos.items()},
        "solo_neighbours_cpu_share": solo_others,
        "comparable": max(solo_others.values()) <= MOST_SHARE and all(run["comparable"] for run in runs),
        "budgets": _by_variant(allowed),
        "runs": runs,
    }


async def _run(server: Server, trace: Sequence[Call]) -> Row:
    async with _running(server):
        meter, neighbours = energy_meter(), Neighbours()
        records = await replay(server, trace)
        joules, others = meter.joules(), neighbours.share()
    return asdict(summarize(records)) | {
        "neighbours_cpu_share": others,
        "comparable": others <= MOST_SHARE,
        "joules": "not exposed by this machine" if joules is None else joules,
    }


@asynccontextmanager
async def _running(server: Server) -> AsyncGenerator[Server, None]:
    try:
        await server.start()
        yield server
    finally:
        await server.stop()


def _by_variant(times: dict[Variant, Solo] | dict[Variant, Budget]) -> dict[str, dict[str, float]]:
    return {f"{shape}, turn {turn + 1}": asdict(time) for (shape, turn), time in times.items()}


_COLUMNS = {
    "load": ("load", "{:g} x"),
    "met": ("met_share", "{:.0%}"),
    "met, mean gap": ("met_pace_share", "{:.0%}"),
    "first token p50": ("first_token_p50_ms", "{:.0f} ms"),
    "p99": ("first_token_p99_ms", "{:.0f} ms"),
    "gap p99": ("gap_p99_ms", "{:.0f} ms"),
    "tokens/s": ("tokens_per_s", "{:.0f}"),
    "good tokens/s": ("good_tokens_per_s", "{:.0f}"),
    "refused": ("refused", "{}"),
    "refusal p99": ("refusal_p99_ms", "{:.1f} ms"),
    "cut off": ("cut_off", "{}"),
    "failed": ("failed", "{}"),
    "others' CPU": ("neighbours_cpu_share", "{:.0%}"),
    "first token error p50": ("first_token_error_p50", "{:.0%}"),
    "p90": ("first_token_error_p90", "{:.0%}"),
}


def _show(runs: Sequence[Row]) -> None:
    table = Table("server", *_COLUMNS)
    for run in runs:
        figures = (("" if run[key] is None else form.format(run[key])) for key, form in _COLUMNS.values())
        table.add_row(run["server"], *figures)
    Console(width=220).print(table)


def _plot(result: Row) -> str:
    curves: dict[str, dict[float, float]] = {}
    for run in result["runs"]:
        curves.setdefault(run["server"], {})[run["load"]] = run["met_share"]
    on = result["machine"]
    note = (
        f"{max(run['offered'] for run in result['runs'])} requests a run, lengths times {result['scale']:g}; "
        f"SmolLM2-135M, 4-bit weights; {on['cores']} cores of {on['cpu']}"
    )
    return goodput_svg(curves, "Share of offered requests that met their whole budget", note)


if __name__ == "__main__":
    main()
