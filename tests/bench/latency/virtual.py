"""`python -m tests.bench.latency.virtual`: the real scheduler and admission over 10,000 requests in virtual time.

Steps take what calibration measured on a device, times noise as it was seen there. Beside the first 800 stands the
oracle: the best offline schedule found, which knows all arrivals, costs and noise-free times in advance.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from rich.console import Console
from rich.table import Table
from tests.virtual_device import Noise, VirtualDevice

from bise_daemon.accuracy import Accuracy
from bise_daemon.admission import Admission, Ask, Grant, Margins
from bise_daemon.cost.curve import Curve
from bise_daemon.cost.model import CostModel
from bise_daemon.demand import Demand
from bise_daemon.errors import RequestError
from bise_daemon.reception import told
from bise_daemon.scheduler.costs import StepCosts
from bise_daemon.scheduler.forecast import Standing
from bise_daemon.scheduler.limits import Limits
from bise_daemon.scheduler.request import Ending, Priority, Request
from bise_daemon.scheduler.scheduler import Scheduler
from bise_daemon.scheduler.slots import longest_match

from .clairvoyant import Device, Job
from .oracle import best_found
from .shapes import SHAPES, Allowance, Budget, Shape, Solo, largest_context
from .solo import budgets, capacity_per_s
from .trace import Call, Draft, Variant, arrivals_ms, beginnings, calls, drafts, variants

RESULTS = Path(__file__).parents[1] / "results"
RECORDED = RESULTS / "step_costs.json"
LOADS = (0.5, 1.0, 2.0, 4.0)
SLOTS = 8
# The oracle's search grows faster than its trace, and takes seconds for so many; requests further apart hardly meet.
_ORACLE_JOBS = 400
_ORACLE_PIECES = 2
_SEED = "bise virtual"


@dataclass(frozen=True, slots=True)
class Recorded:
    """What steps took on a device: expected times, and the spread around them (sigma of their logarithm)."""

    curve: Curve
    sigma: float
    machine: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one offered request; `grant` is None for a refused one."""

    call: Call
    grant: Grant | None
    first_token_ms: float | None = None
    longest_gap_ms: float = 0.0
    total_ms: float = 0.0
    whole: bool = False

    @property
    def met(self) -> bool:
        """Whether the whole answer came within all its budgets."""
        budget = self.call.budget
        return (
            self.whole
            and self.first_token_ms is not None
            and self.first_token_ms <= budget.first_token_ms
            and self.longest_gap_ms <= budget.per_token_ms
            and self.total_ms <= budget.total_ms
        )


class Observed:
    """What steps really take: the recorded curve times noise; the cost model hears of each."""

    margin = 1.0

    def __init__(self, curve: Curve, noise: Noise, model: CostModel) -> None:
        self._curve, self._noise, self._model = curve, noise, model

    def prefill_ms(self, tokens: int, context_tokens: int) -> float:
        took_ms = self._curve.prefill_ms(tokens, context_tokens) * self._noise()
        self._model.observe_prefill(tokens, context_tokens, took_ms)
        return took_ms

    def decode_ms(self, rows: int, context_tokens: int) -> float:
        took_ms = self._curve.decode_ms(rows, context_tokens) * self._noise()
        self._model.observe_decode(rows, context_tokens, took_ms)
        return took_ms

    def mixed_ms(self, tokens: int, context_tokens: int, rows: int, rows_context_tokens: int) -> float:
        took_ms = self._curve.mixed_ms(tokens, context_tokens, rows, rows_context_tokens) * self._noise()
        self._model.observe_mixed(tokens, context_tokens, rows, rows_context_tokens, took_ms)
        return took_ms

    def verify_ms(self, tokens: int, context_tokens: int) -> float:
        took_ms = self._curve.verify_ms(tokens, context_tokens) * self._noise()
        self._model.observe_verify(tokens, context_tokens, took_ms)
        return took_ms

    def copy_ms(self, tokens: int) -> float:
        return self._curve.copy_ms(tokens) * self._noise()


class Daemon:
    """Admission and scheduler as the daemon puts them together, on a device in virtual time."""

    def __init__(self, limits: Limits, curve: Curve, noise: Noise) -> None:
        self._limits, self._costs = limits, CostModel(curve)
        self._device = VirtualDevice(Scheduler(limits, self._costs), Observed(curve, noise, self._costs))
        self._first_token, self._total, self._demand = Accuracy(), Accuracy(), Demand()
        self._offered: list[tuple[Call, Grant | None, str]] = []
        self._told: dict[str, Grant] = {}
        self._settled: set[str] = set()

    def serve(self, trace: Sequence[Call]) -> list[Outcome]:
        """Offers every call when it is due."""
        self._device.run((call.at_ms, lambda call=call: self._offer(call)) for call in trace)
        return [self._outcome(*offer) for offer in self._offered]

    def _offer(self, call: Call) -> None:
        device, scheduler = self._device, self._device.scheduler
        self._learn()
        name = str(len(self._offered))
        prompt = list(call.prompt)
        held = ((0, tokens, count) for tokens, count in scheduler.prefixes())
        ask = Ask(
            len(prompt),
            longest_match(prompt, held, len(prompt) - self._limits.smallest_chunk).tokens,
            call.answer_tokens,
            call.answer_tokens,
            True,
            Priority.INTERACTIVE,
            call.at_ms,
            call.at_ms + call.budget.total_ms,
            call.budget.total_ms,
            call.budget.first_token_ms,
            call.budget.per_token_ms,
        )
        standings = [Standing.of(request) for request in [*scheduler.waiting, *scheduler.running]]
        margins = Margins(self._first_token.margin, self._total.margin)
        try:
            self._demand.check(ask, call.answer_tokens, self._costs, call.at_ms, busy=bool(standings))
        except RequestError:
            self._offered.append((call, None, name))
            return
        try:
            grant = Admission(self._limits, self._costs, margins, standings, device.now).grant(ask, call.answer_tokens)
        except RequestError:
            self._demand.refused(ask)
            self._offered.append((call, None, name))
            return
        self._offered.append((call, grant, name))
        self._told[name] = told(ask, grant, self._first_token, self._total)
        device.submit(
            Request(
                name,
                prompt,
                grant.max_tokens,
                ask.deadline_ms,
                call.at_ms + call.budget.first_token_ms,
                call.budget.per_token_ms,
                promised=True,
                arrived_ms=call.at_ms,
                aim_ms=grant.aim_ms,
            )
        )

    def _learn(self) -> None:
        """What the daemon knows by now of how its predictions hold."""
        for call, grant, name in self._offered[-200:]:
            journey = self._device.journeys.get(name)
            if grant is None or journey is None or journey.ended_ms is None or name in self._settled:
                continue
            self._settled.add(name)
            if journey.first_token_ms is not None:
                first_ms = journey.first_token_ms - call.at_ms
                said = self._told[name]
                self._first_token.observe(grant.predicted_first_token_ms, said.predicted_first_token_ms, first_ms)
                self._first_token.settle(first_ms <= call.budget.first_token_ms)
            self._total.settle(journey.ending is Ending.LENGTH)
            if journey.ending is Ending.LENGTH:
                total_ms = journey.ended_ms - call.at_ms
                self._total.observe(grant.predicted_total_ms, self._told[name].predicted_total_ms, total_ms)

    def _outcome(self, call: Call, grant: Grant | None, name: str) -> Outcome:
        if grant is None:
            return Outcome(call, None)
        journey = self._device.journeys[name]
        assert journey.ended_ms is not None
        first_ms = None if journey.first_token_ms is None else journey.first_token_ms - call.at_ms
        whole = journey.ending is Ending.LENGTH
        return Outcome(call, self._told[name], first_ms, journey.longest_gap_ms, journey.ended_ms - call.at_ms, whole)


def run(requests: int, scale: float, recorded: Recorded, loads: Sequence[float] = LOADS) -> dict[str, Any]:
    """The table, as plain values."""
    shapes = [shape.scaled(scale) for shape in SHAPES]
    context = largest_context(shapes)
    limits = Limits(
        SLOTS,
        context,
        2 * SLOTS * context,
        128,
        spare_slots=SLOTS,
        idle_tokens=SLOTS * context,
        smallest_chunk=2,
        one_way=False,
        mixes=True,
    )
    solo = dict(_solo(shapes, limits, recorded.curve))
    allowed = budgets(shapes, [solo], Allowance())
    capacity = capacity_per_s(shapes, solo)
    with ProcessPoolExecutor() as pool:
        tried = [pool.submit(_tried, load, requests, capacity, shapes, allowed, limits, recorded) for load in loads]
        rows = {f"{load:g}": each.result() for load, each in zip(loads, tried, strict=True)}
    return {
        "what": f"{requests} requests a load in virtual time, lengths times {scale:g}, step costs as recorded",
        "machine": recorded.machine,
        "capacity, requests/s": capacity,
        "table": rows,
    }


def _tried(
    load: float,
    requests: int,
    capacity_per_s: float,
    shapes: Sequence[Shape],
    allowed: Mapping[Variant, Budget],
    limits: Limits,
    recorded: Recorded,
) -> dict[str, float]:
    """A row of the table."""
    began = time.perf_counter()
    asked = drafts(shapes, requests, f"{_SEED} {load}")
    times = arrivals_ms(requests, 1e3 / capacity_per_s / load, float("inf"), f"{_SEED} {load}")
    trace = calls(asked, times, _encode, allowed)
    outcomes = Daemon(limits, recorded.curve, Noise(1, recorded.sigma)).serve(trace)
    took_s = time.perf_counter() - began
    pieces = _ORACLE_PIECES * _ORACLE_JOBS
    best = _oracle(trace[:pieces], asked[:pieces], recorded.curve, mixes=limits.mixes)
    beside = sum(each.met for each in outcomes[:pieces])
    return _row(outcomes, limits) | {
        "oracle": best / len(outcomes[:pieces]),
        "of the oracle": beside / best,
        "simulated in s": took_s,
    }


def _row(outcomes: Sequence[Outcome], limits: Limits) -> dict[str, float]:
    admitted = [each for each in outcomes if each.grant is not None]
    met = sum(each.met for each in outcomes)
    in_time = sum(each.total_ms <= each.call.budget.total_ms + limits.step_ms for each in admitted)
    firsts = [
        abs(each.first_token_ms - each.grant.predicted_first_token_ms) / each.first_token_ms
        for each in admitted
        if each.grant is not None and each.first_token_ms
    ]
    totals = [
        abs(each.total_ms - each.grant.predicted_total_ms) / each.total_ms
        for each in admitted
        if each.grant is not None and each.whole
    ]
    return {
        "admitted": len(admitted) / len(outcomes),
        "of these, ended by deadline + one step": in_time / max(1, len(admitted)),
        "of these, met all budgets": sum(each.met for each in admitted) / max(1, len(admitted)),
        "of all, met": met / len(outcomes),
        "first token error p50": statistics.median(firsts),
        "first token error p90": statistics.quantiles(firsts, n=10)[-1],
        "total error p50": statistics.median(totals),
        "total error p90": statistics.quantiles(totals, n=10)[-1],
    }


def _oracle(trace: Sequence[Call], asked: Sequence[Draft], costs: StepCosts, *, mixes: bool) -> int:
    jobs = [Job.of(n, call, shared) for n, (call, shared) in enumerate(zip(trace, beginnings(asked), strict=True))]
    device = Device(costs, SLOTS, 128, mixes=mixes)
    pieces = (jobs[start : start + _ORACLE_JOBS] for start in range(0, len(jobs), _ORACLE_JOBS))
    return sum(len(best_found(piece, device).numbers) for piece in pieces)


def _solo(shapes: Sequence[Shape], limits: Limits, costs: StepCosts) -> Iterator[tuple[Variant, Solo]]:
    """What each variant takes alone, with nothing cached."""
    endless = Budget(float("inf"), float("inf"), float("inf"))
    alone = list(variants(shapes, _SEED))
    for draft, call in zip(
        alone, calls(alone, [0.0] * len(alone), _encode, {each.variant: endless for each in alone}), strict=True
    ):
        device = VirtualDevice(Scheduler(limits, costs))
        journey = device.serve([Request("alone", list(call.prompt), call.answer_tokens)])["alone"]
        assert journey.first_token_ms is not None
        assert journey.ended_ms is not None
        per_token_ms = statistics.fmean(journey.gaps_ms)
        yield draft.variant, Solo(journey.first_token_ms, per_token_ms, journey.ended_ms)


def _encode(texts: Sequence[str]) -> list[Sequence[int]]:
    """Tokens without a tokenizer: only which prompts begin alike matters here."""
    return [[hash_of(word) for word in text.split()] for text in texts]


def hash_of(word: str) -> int:
    """A token id for a word, the same in every process."""
    return sum(ord(char) * 31**place for place, char in enumerate(word)) % 49_000


def read_recorded(path: Path) -> Recorded:
    """Step costs as `step_costs.json` holds them."""
    return TypeAdapter(Recorded).validate_json(path.read_bytes())


def main() -> None:
    """Simulates, prints, and writes the results."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.latency.virtual", description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--scale", type=float, default=1 / 8)
    parser.add_argument("--loads", type=float, nargs="+", default=list(LOADS))
    parser.add_argument("--output", type=Path, default=RESULTS / "virtual.json")
    wanted = parser.parse_args()
    result = run(wanted.requests, wanted.scale, read_recorded(RECORDED), wanted.loads)
    table = Table(title=result["what"], title_justify="left")
    table.add_column("load")
    columns = list(next(iter(result["table"].values())))
    for column in columns:
        table.add_column(column, justify="right")
    for name, row in result["table"].items():
        table.add_row(name, *(f"{row[column]:.4g}" for column in columns))
    Console().print(table)
    wanted.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
