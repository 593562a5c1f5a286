"""How soon a refusal comes, while the device is saturated."""

from __future__ import annotations

import asyncio
import time
from itertools import count
from pathlib import Path

from tests.bench.promises.daemon import Daemon, answer, daemon, prompt, quantile

from bise.errors import Refused

_CALLS = 500
_WORKERS = 24


async def measure(bundle: Path) -> dict[str, float]:
    """From the call to the refusal in ms, as the caller sees it."""
    seeds = count(1)
    async with daemon(bundle) as running:
        workers = [asyncio.create_task(_worker(running, seeds)) for _ in range(_WORKERS)]
        while (await running.client.status()).queued == 0:
            await asyncio.sleep(0.05)
        took = [await _refused(running, next(seeds)) for _ in range(_CALLS)]
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    return {"p50": quantile(took, 0.5), "p99": quantile(took, 0.99), "worst": max(took)}


async def _refused(running: Daemon, seed: int) -> float:
    tokens = prompt(400, seed)
    began = time.perf_counter()
    try:
        await answer(running.client, tokens, max_tokens=200, min_granted_tokens=200, timeout=0.5)
    except Refused:
        return (time.perf_counter() - began) * 1e3
    raise AssertionError("expected a refusal: 200 tokens in 0.5 s")


async def _worker(running: Daemon, seeds: count[int]) -> None:
    while True:
        await answer(running.client, prompt(300, next(seeds)), max_tokens=200)
