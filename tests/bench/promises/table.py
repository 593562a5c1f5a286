"""The promises beside their bars."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any

from tests.bench import models
from tests.bench.latency.llama_binary import find_binary
from tests.bench.promises import cancel, critical, lookup, memory, refusal, stream, turns
from tests.bench.rounds import machine
from tests.control_group import NoGroupError

from bise.errors import BiseError
from bise_export.pipeline import ExportOptions
from bise_export.quant.kv import KvPrecision

Measure = Callable[[Path], Coroutine[Any, Any, dict[str, float]]]

MEASURES: dict[str, Measure] = {
    "CRITICAL first token beside saturating BACKGROUND": critical.measure,
    "gaps of a stream while 4,000 prompt tokens arrive": stream.measure,
    "the same, with 20 ms a token promised": lambda bundle: stream.measure(bundle, per_token_timeout=0.02),
    "the same, llama-server": lambda _: stream.measure_llama(models.gguf("Q4_0"), find_binary()),
    "a prompt of 4,000 tokens, cancelled": cancel.measure,
    "second turn behind 2,000 tokens": turns.measure,
    "refusals under load": refusal.measure,
    "prompt lookup": lookup.measure,
    "memory limit halved under load": lambda _: memory.measure(_with_cache(memory.CACHE)),
    "the same, with a simulated memory limit": lambda _: memory.measure_simulated(_with_cache(memory.CACHE)),
}


def run(names: Iterable[str] = MEASURES, others: dict[str, Any] | None = None) -> dict[str, Any]:
    """The table, as plain values; what can't run here says why, and so does what broke.

    Args:
        names: of what to measure.
        others: a former result, whose rows stay where they are not measured now.
    """
    bundle = models.bundle(ExportOptions(precision="int4"))
    rows: dict[str, dict[str, Any]] = {"table": {}, "skipped": {}, "failed": {}}
    for name in names:
        kind, row = _measure(MEASURES[name], bundle)
        rows[kind][name] = row
        print(name, row, file=sys.stderr)
    measured = {name for kind in rows.values() for name in kind}
    for kind, known in rows.items():
        kept = {name: row for name, row in (others or {}).get(kind, {}).items() if name not in measured}
        rows[kind] = {name: (kept | known)[name] for name in MEASURES if name in kept | known}
    return {
        "what": "promises kept by a daemon on its own, int4; milliseconds unless said",
        "machine": machine(),
        **rows,
        "ratios": _ratios(rows["table"]),
        "bars": BARS,
    }


def _measure(measure: Measure, bundle: Path) -> tuple[str, Any]:
    """Where the row belongs, and the row."""
    try:
        return "table", asyncio.run(measure(bundle))
    except (FileNotFoundError, NoGroupError) as error:
        return "skipped", str(error)
    except (BiseError, OSError, AssertionError) as error:  # a daemon that died or did not follow: a promise broken
        return "failed", f"{type(error).__name__}: {error}"


def _with_cache(kv: KvPrecision) -> Path:
    return models.bundle(ExportOptions(precision="int4", kv=kv))


BARS = {
    "CRITICAL p99 beside background - solo p99, ms": critical.STEP_MS,
    "gap p99 beside / solo p99": 2.0,
    "device free after a cancel, worst, ms": 50.0,
    "time of a retry / time that was left": 1.2,
    "second turn / turn alone": 1.2,
    "refusal p99, ms": 5.0,
    "prompt lookup, copy-heavy": 1.3,
    "prompt lookup, open": 0.97,
    "seconds until the context limit fell": 1.0,
    "seconds until the context limit fell, simulated": 1.0,
}


def _ratios(table: dict[str, dict[str, float]]) -> dict[str, float]:
    """The figures that have bars, of the rows there are."""
    rows = iter(MEASURES)
    critically, streaming, promised, llama, cancelled, second, refused, looked, short, simulated = (
        table.get(name, {}) for name in rows
    )
    figures = {
        "CRITICAL p99 beside background - solo p99, ms": _of(
            critically, lambda row: row["beside background p99"] - row["solo p99"]
        ),
        "gap p99 beside / solo p99": _of(streaming, _gaps),
        "gap p99 beside / solo p99, promised": _of(promised, _gaps),
        "gap p99 beside / solo p99, llama-server": _of(llama, _gaps),
        "device free after a cancel, worst, ms": _of(cancelled, lambda row: row["device free after, worst"]),
        "time of a retry / time that was left": _of(
            cancelled, lambda row: row["time of the retry / time that was left"]
        ),
        "second turn / turn alone": _of(second, lambda row: row["ratio"]),
        "refusal p99, ms": _of(refused, lambda row: row["p99"]),
        "prompt lookup, copy-heavy": _of(looked, lambda row: row["copy-heavy"]),
        "prompt lookup, open": _of(looked, lambda row: row["open"]),
        "seconds until the context limit fell": _of(short, lambda row: row["limit fell after s"]),
        "seconds until the context limit fell, simulated": _of(simulated, lambda row: row["limit fell after s"]),
    }
    return {name: figure for name, figure in figures.items() if figure is not None}


def _gaps(row: dict[str, float]) -> float:
    return row["beside p99"] / row["solo p99"]


def _of(row: dict[str, float], figure: Callable[[dict[str, float]], float]) -> float | None:
    return figure(row) if row else None
