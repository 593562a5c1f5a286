"""One soak: solo times, then arrivals faster than the device is, then rest; with a look at the daemon now and then."""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import AsyncGenerator, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from operator import attrgetter
from pathlib import Path
from typing import Any

from bise import AsyncClient
from bise.types import State
from bise_export.prompts import token_prompts
from bise_proto.bundle import read_manifest

from ..latency import bise_server
from ..latency.neighbours import Neighbours
from ..latency.server import Event
from ..latency.shapes import SHAPES, Allowance, largest_context
from ..latency.solo import budgets, capacity_per_s, solo_times
from ..latency.trace import Call, arrivals_ms, calls, drafts
from .callers import Callers
from .conduct import conducts
from .daemon import Daemon, checked_daemon
from .samples import Sample, drift
from .wrong import Sizes, wrong_requests

SEED = "soak"
SCALE = 1 / 8
SLOTS, THREADS = 8, 2
_MESSAGE_BYTES = 1 << 20
# Wrong requests cost the device nothing, so they come on top: one for so many others.
_RIGHT_FOR_ONE_WRONG = 8
_MOST_CALLS = 30_000
_SAMPLE_S = 5.0
_FEWEST_SAMPLES = 60
# Behind the last arrival: who states nothing is cut off after 60 s, and everybody has left then.
_REST_S = 90.0
# What the daemon still holds after this, it keeps.
_SETTLE_S = 20.0
_LOOK_S = 0.2
_PROBE_TOKENS = 48

BARS = {
    "resident memory, last fifth / first settled fifth - 1, either way": 0.02,
    "slots in use, queued, or cache held at rest": 0,
    "open files at rest, more than before": 0,
    "engine ended by an integrity check or anything else": 0,
    "answers that broke": 0,
    "calls that ended as they must not": 0,
    "tokens of the last answer unlike the first's": 0,
}


@dataclass(frozen=True, slots=True)
class Soak:
    """What came of it.

    Attributes:
        figures: by the names of `BARS`, none larger than its bar if all is well.
        unexpected: some of what should not have happened, in words.
    """

    figures: dict[str, float]
    facts: dict[str, Any]
    outcomes: dict[str, int]
    unexpected: list[str]
    samples: list[Sample]


async def soak(bundle: Path, minutes: float, load: float) -> Soak:
    """Runs a daemon on `bundle` for so long at `load` times what it can do one request at a time."""
    shapes = [shape.scaled(SCALE) for shape in SHAPES]
    manifest = read_manifest(bundle)
    context_tokens = largest_context(shapes)
    sizes = Sizes(context_tokens, _MESSAGE_BYTES, manifest.architecture.vocab_size)

    def encode(texts: Sequence[str]) -> list[list[int]]:
        return token_prompts(bundle, manifest.tokenizer, texts)

    settings = {"slots": SLOTS, "context": context_tokens, "threads": THREADS, "max_message_bytes": _MESSAGE_BYTES}
    async with checked_daemon(bundle, **settings) as running:
        neighbours = Neighbours()
        solo = await solo_times(_Attached(running.client), shapes, encode, SEED)
        capacity = capacity_per_s(shapes, solo)
        length_s = minutes * 60
        count = min(_MOST_CALLS, ceil(1.2 * capacity * load * length_s) + 10)
        times_ms = arrivals_ms(count, 1e3 / (capacity * load), length_s * 1e3, SEED)
        trace = calls(drafts(shapes, len(times_ms), SEED), times_ms, encode, budgets(shapes, [solo], Allowance()))
        probe = trace[0].prompt
        first = await running.client.generate(probe, max_tokens=_PROBE_TOKENS, ignore_eos=True)
        before = await _look(running, 0.0)
        callers = Callers(running.client, running.folder)
        samples = await _drive(running, callers, trace, sizes, length_s)
        after = await _rest(running, before)
        last = await running.client.generate(probe, max_tokens=_PROBE_TOKENS, ignore_eos=True)
        state = (await running.client.status()).state
        others = neighbours.share()
    differing = sum(one != other for one, other in zip(first.token_ids, last.token_ids, strict=False))
    held = after.slots_used + after.queued + after.kv_used_bytes
    rss_drift = drift(samples, attrgetter("rss_bytes"))
    values = (
        abs(rss_drift),
        held,
        max(0, after.open_files - before.open_files),
        state is not State.SERVING,
        after.failed,
        callers.unexpected_count,
        differing + abs(len(first.token_ids) - len(last.token_ids)),
    )
    facts = {
        "calls": len(trace),
        "capacity_per_s": capacity,
        "rss_drift": rss_drift,
        "rss_drift_without_cache": drift(samples, attrgetter("fixed_bytes")),
        "rss_at_rest_before_bytes": before.rss_bytes,
        "rss_at_rest_after_bytes": after.rss_bytes,
        "at_rest": asdict(after),
        "steps_checked": after.steps,
        "neighbours_cpu_share": others,
    }
    figures = {name: float(value) for name, value in zip(BARS, values, strict=True)}
    return Soak(figures, facts, dict(callers.outcomes.most_common()), callers.unexpected, samples)


class _Attached:
    """A server of the latency bench that runs already."""

    name = "bise"

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def start(self) -> None:
        """It has."""

    def send(self, call: Call) -> AsyncGenerator[Event, None]:
        """As `Server.send`."""
        return bise_server.answer(self._client, call)

    async def stop(self) -> None:
        """It will be."""


async def _drive(
    running: Daemon, callers: Callers, trace: Sequence[Call], sizes: Sizes, length_s: float
) -> list[Sample]:
    """Lets everybody call, until all have left; samples of the time until arrivals end."""
    clock = asyncio.get_running_loop().time
    began_s = clock()
    samples: list[Sample] = []

    async def at(due_s: float, call: Any) -> None:
        await asyncio.sleep(began_s + due_s - clock())
        await call()

    async def watch() -> None:
        while (at_s := clock() - began_s) < length_s:
            samples.append(await _look(running, at_s))
            await asyncio.sleep(min(_SAMPLE_S, length_s / _FEWEST_SAMPLES))

    draw = random.Random(f"{SEED} wrong")
    wrong = list(wrong_requests(sizes).items())
    async with asyncio.timeout(length_s + _REST_S), asyncio.TaskGroup() as group:
        group.create_task(watch())
        for call, conduct in zip(trace, conducts(SEED), strict=False):
            group.create_task(at(call.at_ms / 1e3, lambda call=call, how=conduct: callers.right(call, how)))
        for number in range(len(trace) // _RIGHT_FOR_ONE_WRONG):
            # Each way once before any comes again.
            name, request = wrong[number % len(wrong)]
            due_s = draw.uniform(0, length_s)
            group.create_task(at(due_s, lambda name=name, request=request: callers.wrong(name, request)))
    return samples


async def _rest(running: Daemon, before: Sample) -> Sample:
    """The daemon when it is again as it was before, or when it should have been."""
    clock = asyncio.get_running_loop().time
    ends_s = clock() + _SETTLE_S
    # grpc.aio keeps the socket of a channel closed under a running call until the garbage collector comes: ours, not
    # the daemon's.
    gc.collect()
    while True:
        last = await _look(running, 0.0)
        if (last.rests and last.open_files <= before.open_files) or clock() > ends_s:
            return last
        await asyncio.sleep(_LOOK_S)


async def _look(running: Daemon, at_s: float) -> Sample:
    status = await running.client.status(timeout=10)
    return Sample(
        at_s,
        status.rss_bytes,
        status.kv_used_bytes,
        status.kv_idle_bytes,
        status.slots_used,
        status.queued,
        status.context_limit,
        running.process.num_fds(),
        running.process.num_threads(),
        status.steps,
        status.requests_finished,
        status.requests_cancelled,
        status.requests_failed,
        status.requests_preempted,
        status.requests_expired,
        sum(status.refusals.values()),
    )
