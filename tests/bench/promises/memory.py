"""A memory limit that is halved while the device is busy, and given back."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Protocol

from tests.bench.promises.daemon import SERVE, Daemon, answer, daemon, prompt
from tests.bench.promises.simulated import SimulatedLimit
from tests.control_group import control_group

from bise.errors import BiseError, LowMemory
from bise.types import Status
from bise_export.quant.kv import KvPrecision
from bise_proto.bundle import read_manifest

# A context of SmolLM2 is 360 MiB then, and half of one far more than the page cache that comes and goes in a group:
# with an int8 cache, the limit of a busy machine once left room for a whole context after all.
CACHE: KvPrecision = "fp32"
# The governor holds better news back for 10 s, once for each of two levels and perhaps for the budget too.
_PATIENCE_S = 60.0
_LOAD_S = 6.0
_ROOMY_BYTES = 1 << 30
_KEPT_PROMPTS = 4
_KEPT_TOKENS = 1000
# Prompt and answer of each caller.
_CALLERS = [(100, 200)] * 4 + [(1500, 40)] * 2
# Far more than any answer takes, on a busy machine too: one cut short by its time would look like one lost.
_ANSWER_S = 300.0


class Limit(Protocol):
    """What a daemon's memory is held to."""

    def set_limit(self, limit_bytes: int) -> None:
        """Changes it."""
        ...

    @property
    def kills(self) -> int:
        """Processes killed for it."""
        ...


async def measure(bundle: Path) -> dict[str, float]:
    """In a real control group: its version, context limits, seconds, MiB, requests.

    Raises:
        NoGroupError: none can be made here.
    """
    with control_group() as group:
        return {"control groups, version": group.version} | await _halved(bundle, group, group.inside(SERVE))


async def measure_simulated(bundle: Path) -> dict[str, float]:
    """The same with a limit that only the daemon's governor is told."""
    with tempfile.TemporaryDirectory(prefix="bise-bench-") as folder:
        limit = SimulatedLimit(Path(folder) / "limit_bytes")
        return await _halved(bundle, limit, limit.serve)


async def _halved(bundle: Path, limit: Limit, serve: Sequence[str]) -> dict[str, float]:
    limit.set_limit(_ROOMY_BYTES)
    async with daemon(bundle, serve) as running:
        for seed in range(_KEPT_PROMPTS):
            await answer(running.client, prompt(_KEPT_TOKENS, seed), max_tokens=1)
        async with _load(running) as tally:
            await asyncio.sleep(_LOAD_S)
            half_bytes = _room_for_half_a_context(bundle, await running.client.status())
            limit.set_limit(2 * half_bytes)
            before = await running.client.status()
            limit.set_limit(half_bytes)
            fell_s = await _until(running, lambda tokens: tokens < before.context_limit)
            await asyncio.sleep(_LOAD_S)
            short = await running.client.status()
            limit.set_limit(2 * half_bytes)
            recovered_s = await _until(running, lambda tokens: tokens >= before.context_limit)
        kills = limit.kills
    return {
        "limit MiB": 2 * half_bytes / 2**20,
        "context limit before": before.context_limit,
        "context limit while short": short.context_limit,
        "limit fell after s": fell_s,
        "recovered after s": recovered_s,
        "RSS before MiB": before.rss_bytes / 2**20,
        "RSS while short MiB": short.rss_bytes / 2**20,
        "requests ended": tally.ended,
        "requests refused": tally.refused,
        "requests lost": tally.lost,
        "kills": kills,
    }


def _room_for_half_a_context(bundle: Path, status: Status) -> int:
    """The limit that leaves the cache as much beside weights and reserve: a context still fits into twice that.

    A limit that leaves more than one context changes the budget of all requests, but not what one of them may hold.
    """
    kept_bytes = status.context_limit // 2 * read_manifest(bundle).kv_cache.bytes_per_token
    return _ROOMY_BYTES - status.kv_budget_bytes + kept_bytes


async def _until(running: Daemon, reached: Callable[[int], bool]) -> float:
    """Seconds until the context limit is as wanted."""
    began = time.perf_counter()
    while not reached(tokens := (await running.client.status()).context_limit):
        if time.perf_counter() - began > _PATIENCE_S:
            raise TimeoutError(f"the context limit did not follow: still {tokens} tokens after {_PATIENCE_S:.0f} s")
        await asyncio.sleep(0.02)
    return time.perf_counter() - began


@dataclass(slots=True)
class Tally:
    """What became of requests.

    Attributes:
        ended: with a whole answer.
        refused: told at once that memory is short; their callers ask again.
        lost: taken, and come to another end.
    """

    ended: int = 0
    refused: int = 0
    lost: int = 0
    closing: bool = False


@asynccontextmanager
async def _load(running: Daemon) -> AsyncIterator[Tally]:
    """Callers that ask again and again; leaving the block waits for the answers that are under way."""
    tally, seeds = Tally(), count(_KEPT_PROMPTS)
    callers = [asyncio.create_task(_call(running, tally, seeds, *lengths)) for lengths in _CALLERS]
    try:
        yield tally
    finally:
        tally.closing = True
        await asyncio.gather(*callers)


async def _call(running: Daemon, tally: Tally, seeds: Iterator[int], prompt_tokens: int, max_tokens: int) -> None:
    while not tally.closing:
        tokens = prompt(prompt_tokens, next(seeds))
        try:
            result = await answer(
                running.client, tokens, max_tokens=max_tokens, min_granted_tokens=max_tokens, timeout=_ANSWER_S
            )
        except LowMemory:
            tally.refused += 1
            await asyncio.sleep(0.2)
        except BiseError:
            tally.lost += 1
        else:
            whole = result.usage.completion_tokens == max_tokens
            tally.ended += whole
            tally.lost += not whole
