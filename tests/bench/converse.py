"""How soon an answer begins behind the last word, when its prompt was told word by word; beside sending it at once."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from tests.bench import models
from tests.bench.promises.daemon import daemon
from tests.bench.rounds import Figures, machine, ratio, summary

from bise import AsyncClient, AsyncStream
from bise_export.pipeline import ExportOptions

BAR = 1.5
ROUNDS = 7
TOKENS = 24
# Three times as fast as people speak, so that a run does not take all day. What follows the last word is the silence by
# which a recognizer knows that there are no more; or nothing, where it knows otherwise.
WORD_S = 0.1
SILENCE_S = 0.5
OPTIONS: dict[str, Any] = {"max_tokens": TOKENS, "ignore_eos": True}
SYSTEM = {"role": "system", "content": "You are the voice of a car. Answer in one or two short sentences."}
WORDS = [
    "so",
    "I",
    "was",
    "wondering",
    "whether",
    "you",
    "could",
    "tell",
    "me",
    "how",
    "long",
    "it",
    "will",
    "take",
    "to",
    "get",
    "from",
    "here",
    "to",
    "the",
    "old",
    "harbour",
    "if",
    "we",
    "leave",
    "right",
    "after",
    "lunch",
    "and",
    "stop",
    "on",
    "the",
    "way",
    "for",
    "about",
    "twenty",
    "minutes",
    "to",
    "buy",
    "some",
    "bread",
    "and",
    "cheese",
    "because",
    "my",
    "sister",
    "is",
    "coming",
    "to",
    "visit",
    "tonight",
    "with",
    "her",
    "two",
    "children",
    "who",
    "are",
    "always",
    "very",
    "hungry",
]
assert len(WORDS) == 60


AT_ONCE = "sent at once"
LAST_WORD = "told word by word, the turn ends with the last"
SILENCE = f"told word by word, the turn ends {SILENCE_S * 1e3:.0f} ms later"
STEP = "a decode step of that answer"


async def _at_once(client: AsyncClient, words: list[str]) -> float:
    began = time.perf_counter()
    async with client.stream_chat([SYSTEM, {"role": "user", "content": " ".join(words)}], **OPTIONS) as stream:
        return (await _times_ms(stream, began))[0]


async def _word_by_word(client: AsyncClient, words: list[str], silence_s: float) -> tuple[float, float]:
    """Milliseconds from the end of the turn to the first token, and of a step after it; the tokens are a chat's."""
    async with client.converse([SYSTEM], **OPTIONS) as talk:
        for end in range(1, len(words) + 1):
            await talk.hear(" ".join(words[:end]))
            await asyncio.sleep(WORD_S if end < len(words) else silence_s)
        began = time.perf_counter()
        async with talk.answer(" ".join(words)) as stream:
            times_ms = await _times_ms(stream, began)
    expected = await client.chat([SYSTEM, {"role": "user", "content": " ".join(words)}], **OPTIONS)
    if stream.result.token_ids != expected.token_ids:
        raise RuntimeError(f"{words[0]} other tokens than of a chat: {stream.result.text!r}, {expected.text!r}")
    return times_ms


async def _times_ms(stream: AsyncStream, began: float) -> tuple[float, float]:
    """To the first token, and from there for each of the others."""
    arrivals = [time.perf_counter() async for _ in stream]
    return (arrivals[0] - began) * 1e3, (arrivals[-1] - arrivals[0]) * 1e3 / (TOKENS - 1)


async def _measure(client: AsyncClient) -> Figures:
    figures: Figures = {name: [] for name in (AT_ONCE, LAST_WORD, SILENCE, STEP)}
    for number in range(ROUNDS + 1):
        # Nothing that another said is cached of these.
        at_once, last_word, silence = ([f"{100 * kind + number},", *WORDS] for kind in (1, 2, 3))
        first_ms = await _at_once(client, at_once)
        hurried_ms, _ = await _word_by_word(client, last_word, 0.0)
        behind_ms, step_ms = await _word_by_word(client, silence, SILENCE_S)
        if number:
            for name, took_ms in zip(figures, (first_ms, hurried_ms, behind_ms, step_ms), strict=True):
                figures[name].append(took_ms)
    return figures


async def _run() -> Figures:
    # Guesses would make steps of several tokens.
    async with daemon(models.bundle(ExportOptions(precision="int4")), draft_tokens=0) as running:
        return await _measure(running.client)


def run() -> dict[str, Any]:
    """The table, as plain values."""
    figures = asyncio.run(_run())
    return {
        "what": f"milliseconds from the end of a turn of {len(WORDS)} words to its first token, int4, int8 cache",
        "machine": machine(("bise", "onnxruntime", "numpy")),
        "rounds": figures,
        "summary": summary(figures),
        "ratios": {
            "first token, a silence behind the last word / decode step": ratio(figures, SILENCE, STEP),
            "first token, right behind the last word / decode step": ratio(figures, LAST_WORD, STEP),
            "first token, sent at once / decode step": ratio(figures, AT_ONCE, STEP),
        },
        "bars": {"first token, a silence behind the last word / decode step": BAR},
    }
