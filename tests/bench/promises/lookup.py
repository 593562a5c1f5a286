"""Prompt lookup, on answers that repeat their prompt and on answers that don't."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.bench.promises.daemon import Daemon, daemon, quantile

_TEXTS = (
    "The bise is a cold wind from the north-east that blows over the Swiss plateau and down Lake Geneva. In winter "
    "its spray freezes on the railings of the quays, and in summer it brings clear skies.",
    "def mean(values):\n    total = 0\n    for value in values:\n        total += value\n"
    "    return total / len(values)\n\n\ndef spread(values):\n    middle = mean(values)\n"
    "    return max(abs(value - middle) for value in values)",
    "Dear Ms. Keller, thank you for your order of 12 September. The parts will leave our warehouse on Monday and "
    "should reach you by Thursday at noon. Please sign for them in person. Kind regards, the workshop in Biel.",
)
_COPY = "Repeat the following text exactly, word for word, without any other words:\n\n{}"
_OPEN = (
    "Write a short story about a lighthouse keeper and a storm.",
    "Explain why the sky is blue to a child.",
    "List ten things to pack for a week in the mountains, each with a reason.",
)
_ROUNDS = 5
_TOKENS = 160


async def measure(bundle: Path) -> dict[str, float]:
    """Tokens/s with drafts over tokens/s without, medians of interleaved rounds; and whether all tokens are equal."""
    async with daemon(bundle) as drafting, daemon(bundle, draft_tokens=0) as plain:
        copying = await _ratios(drafting, plain, [_COPY.format(text) for text in _TEXTS])
        writing = await _ratios(drafting, plain, list(_OPEN))
    return {
        "copy-heavy": quantile(copying, 0.5),
        "copy-heavy, least": min(copying),
        "open": quantile(writing, 0.5),
        "open, least": min(writing),
    }


async def _ratios(drafting: Daemon, plain: Daemon, prompts: list[str]) -> list[float]:
    ratios = []
    for _ in range(_ROUNDS):
        for text in prompts:
            with_ms, drafted = await _decode_ms(drafting, text)
            without_ms, tokens = await _decode_ms(plain, text)
            if drafted != tokens:
                raise AssertionError(f"expected the same tokens with drafts, got others for {text[:60]!r}")
            ratios.append(without_ms / with_ms)
    return ratios


async def _decode_ms(running: Daemon, text: str) -> tuple[float, tuple[int, ...]]:
    # Idle for a moment, so that the other daemon's threads have come to rest.
    await asyncio.sleep(0.05)
    result = await running.client.chat(text, max_tokens=_TOKENS)
    return result.timings.total_ms - result.timings.first_token_ms, result.token_ids
