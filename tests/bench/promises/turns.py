"""The second turn of a long chat, and the same words as a prompt of their own."""

from __future__ import annotations

from pathlib import Path

from tests.bench.promises.daemon import daemon, first_token_ms, prompt, quantile

_HISTORY_TOKENS = 2000
_TURN_TOKENS = 200
_ROUNDS = 10


async def measure(bundle: Path) -> dict[str, float]:
    """First token in ms of a turn of 200 tokens, behind a history of 2,000 and alone, interleaved."""
    alone, second = [], []
    async with daemon(bundle) as running:
        for number in range(_ROUNDS):
            history, turn = prompt(_HISTORY_TOKENS, 10 + number), prompt(_TURN_TOKENS, 100 + number)
            result = await running.client.generate(history, max_tokens=16, ignore_eos=True)
            chat = [*history, *result.token_ids, *turn]
            second.append(await first_token_ms(running.client, chat, max_tokens=1))
            alone.append(await first_token_ms(running.client, turn, max_tokens=1))
    ratios = [behind / itself for behind, itself in zip(second, alone, strict=True)]
    return {
        "turn alone": quantile(alone, 0.5),
        "second turn": quantile(second, 0.5),
        "ratio": quantile(ratios, 0.5),
    }
