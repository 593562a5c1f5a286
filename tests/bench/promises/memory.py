"""A control group's memory limit that is halved while the device is busy, and given back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from tests.bench.promises.daemon import Daemon, answer, daemon, prompt

from bise.errors import BiseError, Refused

_GROUPS = Path("/sys/fs/cgroup/memory")
_LIMIT_BYTES = 1200 << 20
_WORKERS = 6
_LOAD_S = 6.0
_PATIENCE_S = 40.0


async def measure(bundle: Path) -> dict[str, float]:
    """Context limits, seconds, MiB, and requests lost; raises OSError where groups can't be made."""
    seeds, lost = count(1), [0]
    with _group(_LIMIT_BYTES) as group:
        async with daemon(bundle) as running:
            (group / "cgroup.procs").write_text(str(running.process.pid))
            await _until(running, lambda limit: limit > 0)
            workers = [asyncio.create_task(_worker(running, seeds, lost)) for _ in range(_WORKERS)]
            await asyncio.sleep(_LOAD_S)
            before = await running.client.status()
            _limit(group, _LIMIT_BYTES // 2)
            fell_s = await _until(running, lambda limit: limit < before.context_limit)
            await asyncio.sleep(_LOAD_S)
            short = await running.client.status()
            _limit(group, _LIMIT_BYTES)
            recovered_s = await _until(running, lambda limit: limit >= before.context_limit)
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
    return {
        "context limit before": before.context_limit,
        "context limit while short": short.context_limit,
        "limit fell after s": fell_s,
        "recovered after s": recovered_s,
        "RSS before MiB": before.rss_bytes / 2**20,
        "RSS while short MiB": short.rss_bytes / 2**20,
        "requests lost": lost[0],
    }


@contextmanager
def _group(limit_bytes: int) -> Iterator[Path]:
    group = _GROUPS / "bise-bench"
    group.mkdir(exist_ok=True)
    try:
        _limit(group, limit_bytes)
        yield group
    finally:
        group.rmdir()


def _limit(group: Path, limit_bytes: int) -> None:
    (group / "memory.limit_in_bytes").write_text(str(limit_bytes))


async def _until(running: Daemon, reached: Callable[[int], bool]) -> float:
    began = time.perf_counter()
    while not reached((await running.client.status()).context_limit):
        if time.perf_counter() - began > _PATIENCE_S:
            raise TimeoutError("the context limit did not follow")
        await asyncio.sleep(0.02)
    return time.perf_counter() - began


async def _worker(running: Daemon, seeds: count[int], lost: list[int]) -> None:
    """Requests that get in must end; those refused for memory try again."""
    while True:
        try:
            result = await answer(running.client, prompt(1200, next(seeds)), max_tokens=60)
            lost[0] += result.usage.completion_tokens != 60
        except Refused:
            await asyncio.sleep(0.2)
        except BiseError:
            lost[0] += 1
