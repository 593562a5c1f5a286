"""How soon a refusal comes, while the device is saturated."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import count, islice
from multiprocessing import get_context
from pathlib import Path

from tests.bench.promises.daemon import Daemon, answer, daemon, prompt, quantile

from bise import Client
from bise.errors import Refused

_CALLS = 500
_WORKERS = 24


async def measure(bundle: Path) -> dict[str, float]:
    """From the call to the refusal in ms, as its caller sees it: a process of its own, beside one with all the others.

    Both, the daemon's sockets and the engine share the cores.
    """
    seeds = count(1)
    async with daemon(bundle) as running:
        workers = [asyncio.create_task(_worker(running, seeds)) for _ in range(_WORKERS)]
        while (await running.client.status()).queued == 0:
            await asyncio.sleep(0.05)
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            refused = pool.submit(_refused, running.address, list(islice(seeds, _CALLS)))
            took = await asyncio.wrap_future(refused)
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    return {"p50": quantile(took, 0.5), "p99": quantile(took, 0.99), "worst": max(took)}


def _refused(address: str, seeds: Sequence[int]) -> list[float]:
    took = []
    with Client(address) as client:
        for seed in seeds:
            tokens = prompt(400, seed)
            began = time.perf_counter()
            try:
                client.generate(tokens, max_tokens=200, min_granted_tokens=200, ignore_eos=True, timeout=0.5)
            except Refused:
                took.append((time.perf_counter() - began) * 1e3)
            else:
                raise AssertionError("expected a refusal: 200 tokens in 0.5 s")
    return took


async def _worker(running: Daemon, seeds: count[int]) -> None:
    while True:
        await answer(running.client, prompt(300, next(seeds)), max_tokens=200)
