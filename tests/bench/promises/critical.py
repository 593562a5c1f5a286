"""CRITICAL requests while BACKGROUND ones saturate the device."""

from __future__ import annotations

import asyncio
from itertools import count
from pathlib import Path

from tests.bench.promises.daemon import Daemon, answer, daemon, first_token_ms, prompt, quantile

_CALLS = 100
_PROMPT_TOKENS = 48
_WORKERS = 12
# The daemon's own bound of a step (`step_ms`).
STEP_MS = 50.0


async def measure(bundle: Path) -> dict[str, float]:
    """First-token p99 in ms, alone and beside the background."""
    seeds = count(1)
    async with daemon(bundle) as running:
        solo = await _calls(running, seeds)
        workers = [asyncio.create_task(_background(running, seeds)) for _ in range(_WORKERS)]
        await _saturated(running)
        beside = await _calls(running, seeds)
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    return {
        "solo p50": quantile(solo, 0.5),
        "solo p99": quantile(solo, 0.99),
        "beside background p50": quantile(beside, 0.5),
        "beside background p99": quantile(beside, 0.99),
    }


async def _calls(running: Daemon, seeds: count[int]) -> list[float]:
    return [
        await first_token_ms(running.client, prompt(_PROMPT_TOKENS, next(seeds)), max_tokens=4, priority="critical")
        for _ in range(_CALLS)
    ]


async def _background(running: Daemon, seeds: count[int]) -> None:
    while True:
        await answer(running.client, prompt(300, next(seeds)), max_tokens=200, priority="background")


async def _saturated(running: Daemon) -> None:
    while (await running.client.status()).queued == 0:
        await asyncio.sleep(0.05)
