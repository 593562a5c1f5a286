"""A `bise serve` in a process of its own, and what every measurement of it needs."""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bise import AsyncClient
from bise.types import Result

SERVE = (sys.executable, "-m", "bise", "serve")
THREADS = 2
_LOAD_S = 120


@dataclass(frozen=True, slots=True)
class Daemon:
    """A daemon that serves."""

    client: AsyncClient
    address: str


@asynccontextmanager
async def daemon(bundle: Path, serve: Sequence[str] = SERVE, **settings: Any) -> AsyncIterator[Daemon]:
    """Runs a daemon with these settings until the block is left.

    Args:
        serve: the command that runs it, to be followed by its configuration.
    """
    with tempfile.TemporaryDirectory(prefix="bise-bench-") as scratch:
        address = f"unix://{scratch}/bise.sock"
        config = Path(scratch) / "bise.yaml"
        config.write_text(
            yaml.safe_dump({"bundle": str(bundle), "listen": address, "threads": THREADS, **settings}),
            encoding="utf-8",
        )
        process = await asyncio.create_subprocess_exec(
            *serve, "--config", str(config), stderr=asyncio.subprocess.DEVNULL
        )
        try:
            async with AsyncClient(address) as client:
                await client.wait_until_serving(timeout=_LOAD_S)
                yield Daemon(client, address)
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


def prompt(tokens: int, seed: int) -> list[int]:
    """Token ids that no other seed's prompt begins with."""
    chosen = random.Random(seed)
    return [chosen.randrange(1000, 40_000) for _ in range(tokens)]


async def first_token_ms(client: AsyncClient, tokens: list[int], **options: Any) -> float:
    """From the call to its first token, as the caller sees it; the answer is read to its end."""
    began = time.perf_counter()
    took_ms = None
    async with client.stream_generate(tokens, ignore_eos=True, **options) as stream:
        async for delta in stream:
            if took_ms is None and delta.token_ids:
                took_ms = (time.perf_counter() - began) * 1e3
    assert took_ms is not None
    return took_ms


async def answer(client: AsyncClient, tokens: list[int], **options: Any) -> Result:
    """A whole answer that ends by its length only."""
    return await client.generate(tokens, ignore_eos=True, **options)


def quantile(values: list[float], share: float) -> float:
    """The smallest value that `share` of all do not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]
