"""A long prompt that is cancelled halfway, and sent again."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.bench.promises.daemon import Daemon, daemon, first_token_ms, prompt, quantile

_PROMPT_TOKENS = 4000
_ROUNDS = 4


async def measure(bundle: Path) -> dict[str, float]:
    """In ms: how much longer than alone another call takes that comes with the cancel; and the retry.

    The retry's time stands beside what the prompt still lacked when it was cancelled, as time and as tokens: the last
    tokens of a prompt are its dearest.
    """
    freed, shares, rests = [], [], []
    async with daemon(bundle) as running:
        whole = await first_token_ms(running.client, prompt(_PROMPT_TOKENS, 1), max_tokens=1)
        alone = quantile([await _small(running, seed) for seed in range(100, 100 + _ROUNDS)], 0.5)
        for number in range(_ROUNDS):
            tokens = prompt(_PROMPT_TOKENS, 10 + number)
            ran = 0.2 + 0.6 * number / _ROUNDS
            await _cancelled(running, tokens, after_s=whole / 1e3 * ran)
            freed.append(await _small(running, 200 + number) - alone)
            async with running.client.stream_generate(tokens, max_tokens=1, ignore_eos=True) as stream:
                result = await stream.finish()
            shares.append(1 - result.usage.cached_tokens / _PROMPT_TOKENS)
            rests.append(result.timings.first_token_ms / whole / (1 - ran))
    return {
        "whole prompt": whole,
        "device free after p50": quantile(freed, 0.5),
        "device free after, worst": max(freed),
        "tokens left to the retry, share": sum(shares) / len(shares),
        "time of the retry / time that was left": quantile(rests, 0.5),
    }


async def _cancelled(running: Daemon, tokens: list[int], after_s: float) -> None:
    call = asyncio.create_task(first_token_ms(running.client, tokens, max_tokens=1))
    await asyncio.sleep(after_s)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)


async def _small(running: Daemon, seed: int) -> float:
    return await first_token_ms(running.client, prompt(8, seed), max_tokens=1)
