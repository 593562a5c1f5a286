"""A running stream while a long prompt arrives, in bise and in llama-server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from tests.bench.latency.llama_server import LlamaServer, Settings
from tests.bench.latency.server import Tokens
from tests.bench.latency.shapes import Budget
from tests.bench.latency.trace import Call
from tests.bench.promises.daemon import THREADS, daemon, prompt, quantile

_STREAM_PROMPT_TOKENS = 32
_SOLO_TOKENS = 600
_MOST_TOKENS = 7000
_LONG_PROMPT_TOKENS = 4000
_CONTEXT_TOKENS = 8192
_HEAD_START_S = 0.3
_PATIENCE_S = 600.0

# Counts of tokens as they come, for a prompt and a number of tokens to make.
Streams = Callable[[list[int], int], AsyncIterator[int]]


async def measure(bundle: Path, per_token_timeout: float | None = None) -> dict[str, float]:
    """Gaps between tokens in ms: alone, and while the long prompt is computed; with or without a stated budget."""

    async def stream(tokens: list[int], count: int) -> AsyncIterator[int]:
        pace = None if count == 1 else per_token_timeout
        async with running.client.stream_generate(
            tokens, max_tokens=count, ignore_eos=True, per_token_timeout=pace, timeout=_PATIENCE_S
        ) as answer:
            async for delta in answer:
                yield len(delta.token_ids)

    # Without guesses ahead, whose tokens come several at once: gaps would say little then.
    async with daemon(bundle, draft_tokens=0) as running:
        return await _measure(stream)


async def measure_llama(model: Path, binary: Path) -> dict[str, float]:
    """The same for llama-server."""
    never = Budget(1e6, 1e6, 1e6)

    async def stream(tokens: list[int], count: int) -> AsyncIterator[int]:
        async for event in server.send(Call("", 0, 0.0, tuple(tokens), count, never)):
            if isinstance(event, Tokens):
                yield event.count

    server = LlamaServer("llama-server", binary, Settings(model, 8, _CONTEXT_TOKENS, THREADS))
    await server.start()
    try:
        return await _measure(stream)
    finally:
        await server.stop()


async def _measure(stream: Streams) -> dict[str, float]:
    solo = await _gaps_ms(stream(prompt(_STREAM_PROMPT_TOKENS, 1), _SOLO_TOKENS), asyncio.Event())
    done = asyncio.Event()
    beside = asyncio.create_task(_gaps_ms(stream(prompt(_STREAM_PROMPT_TOKENS, 2), _MOST_TOKENS), done))
    await asyncio.sleep(_HEAD_START_S)
    began = time.perf_counter()
    async for _ in stream(prompt(_LONG_PROMPT_TOKENS, 3), 1):
        first_ms = (time.perf_counter() - began) * 1e3
    done.set()
    gaps = await beside
    return {
        "solo p50": quantile(solo, 0.5),
        "solo p99": quantile(solo, 0.99),
        "beside p50": quantile(gaps, 0.5),
        "beside p99": quantile(gaps, 0.99),
        "long prompt's first token": first_ms,
    }


async def _gaps_ms(counts: AsyncIterator[int], done: asyncio.Event) -> list[float]:
    """Between tokens, until `done`; tokens that come together have no gap."""
    gaps: list[float] = []
    last = None
    async for count in counts:
        now = time.perf_counter()
        if last is not None:
            gaps += [(now - last) * 1e3, *[0.0] * (count - 1)]
        last = now
        if done.is_set():
            break
    return gaps
