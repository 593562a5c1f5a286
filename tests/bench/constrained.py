"""Answers in a format: whether they are whole whatever cuts them short, and what keeping to a format costs.

A thousand answers of the real model over fifty schemas, with random deadlines and max_tokens, beside streams without a
format; then the pace of an answer with and without a format, and with and without skipping what a format dictates.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jsonschema import Draft202012Validator
from tests.bench.rounds import interleave, machine, ratio, summary
from tests.bench.silent import Silent
from tests.bench.synthetic import write_tokenizer
from tests.schemas import SCHEMAS, closed

from bise import AsyncClient, BiseError, InvalidRequest, OverBudget
from bise_daemon.chat.message import Message
from bise_daemon.chat.mistral_tokenizer import MistralCommonTokenizer
from bise_daemon.config.load import config_from_flags
from bise_daemon.engine.detokenize import StopMatcher
from bise_daemon.engine.events import Failed, Finished
from bise_daemon.engine.generation import Generation
from bise_daemon.engine.guide import among
from bise_daemon.engine.loop import Engine
from bise_daemon.engine.sampling import Sampler, SamplingParams
from bise_daemon.grammar.compiler import compile_format
from bise_daemon.grammar.format import Format, Kind
from bise_daemon.grammar.grammar import Grammar
from bise_daemon.grammar.trial import attempt
from bise_daemon.grammar.vocabulary import Vocabulary
from bise_daemon.models.model import load_model
from bise_daemon.scheduler.request import Request
from bise_daemon.scheduler.scheduler import Scheduler
from bise_export.pipeline import ExportOptions, export
from bise_proto.v1 import bundle_pb2

GGUF = Path(os.environ.get("BISE_CACHE", ".cache")).absolute() / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"
ANSWERS = int(os.environ.get("BISE_BENCH_ANSWERS", "1000"))
CALLERS, NEIGHBOURS = 3, 2
ROUNDS, TOKENS = 7, 96
BAR = 0.9

_TASK = "Describe a rainy day at the sea, as JSON."
_LONG_TEXT = closed({"text": {"type": "string"}})
_TOOL_CALL = closed(
    {
        "name": {"const": "set_climate_control"},
        "arguments": closed(
            {
                "temperature_celsius": {"type": "integer", "minimum": 16, "maximum": 30},
                "ventilation_direction": {"enum": ["windscreen", "face", "feet"]},
                "recirculation_enabled": {"type": "boolean"},
                "passenger_side_as_well": {"type": "boolean"},
            }
        ),
    }
)


def run() -> dict[str, Any]:
    """The tables, as plain values."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "smollm2")
        export(GGUF, folder, ExportOptions(precision="int4", verify=False), Silent())
        counts = asyncio.run(_answers(folder, Path(scratch)))
        loop = _Loop(folder)
        long_text, tool_call = loop.grammar(_LONG_TEXT), loop.grammar(_TOOL_CALL)
        figures = interleave(
            {
                "free": lambda: loop.ms_per_token(None, TOKENS),
                "a long text, behind a mask": lambda: loop.ms_per_token(long_text, TOKENS, known_tokens=1),
                "tool call, dictated tokens one by one": lambda: loop.ms_per_token(tool_call, TOKENS, known_tokens=1),
                "tool call, dictated tokens at once": lambda: loop.ms_per_token(tool_call, TOKENS),
            },
            ROUNDS,
        )
        masks = _mask_us(Path(scratch))
    pace = ratio(figures, "free", "a long text, behind a mask")
    step_ms = statistics.median(figures["free"])
    return {
        "what": f"{ANSWERS} answers over {len(SCHEMAS)} schemas; then milliseconds a token at batch 1, SmolLM2 int4; "
        "then microseconds a token of 131,072, along JSON texts",
        "machine": machine(("bise", "onnxruntime", "llguidance", "numpy")),
        "counts": counts,
        "rounds": figures,
        "table": {"answers": counts} | summary(figures) | masks,
        "ratios": {
            "whole answers of those let in": counts["whole"] / max(1, counts["let in"]),
            "neighbours that failed": counts["neighbours failed"],
            "behind a mask / free, tokens/s": pace,
            "the same with 131,072 tokens, in SmolLM2's step": step_ms / (step_ms + masks["all of it"]["mean"] / 1e3),
            "dictated at once / one by one, tokens/s": ratio(
                figures, "tool call, dictated tokens one by one", "tool call, dictated tokens at once"
            ),
        },
        "bars": {
            "whole answers of those let in": 1,
            "neighbours that failed": 0,
            "behind a mask / free, tokens/s": BAR,
            "the same with 131,072 tokens, in SmolLM2's step": BAR,
        },
    }


async def _answers(folder: Path, scratch: Path) -> dict[str, float]:
    """Whether answers are whole, whatever cuts them short, and whether anybody else notices."""
    counts: Counter[str] = Counter()
    draw, numbers = random.Random(7), itertools.count()
    with _daemon(folder, scratch) as address:
        async with AsyncClient(address) as client:
            await client.wait_until_serving(timeout=60)

            async def ask() -> None:
                while (number := next(numbers)) < ANSWERS:
                    schema = SCHEMAS[number % len(SCHEMAS)]
                    options: Any = {"max_tokens": draw.choice([8, 16, 32, 48, 64]), "temperature": 1.0, "seed": number}
                    if draw.random() < 0.6:
                        options["timeout"] = draw.uniform(0.1, 1.5)
                    try:
                        result = await client.chat(_TASK, json_schema=schema, **options)
                    except (InvalidRequest, OverBudget) as refusal:
                        counts[f"refused: {refusal.reason}"] += 1
                        continue
                    except BiseError as error:
                        counts["let in"] += 1
                        counts[f"failed: {type(error).__name__}"] += 1
                        print(f"{schema}: {error}")
                        continue
                    counts["let in"] += 1
                    counts[f"ended: {result.finish_reason}"] += 1
                    counts["closed early"] += result.closed_early
                    counts["whole"] += _is_whole(schema, result.text)

            async def chat() -> None:
                while True:
                    try:
                        result = await client.chat("Tell me about the wind.", max_tokens=48)
                    except OverBudget as refusal:  # it would have broken a promise to one of the others
                        await asyncio.sleep(refusal.retry_after_s or 0.1)
                        continue
                    counts["neighbours"] += 1
                    counts["neighbours failed"] += not result.text

            neighbours = [asyncio.create_task(chat()) for _ in range(NEIGHBOURS)]
            await asyncio.gather(*(ask() for _ in range(CALLERS)))
            counts["neighbours failed"] += sum(task.done() for task in neighbours)  # they go on for ever
            for task in neighbours:
                task.cancel()
            await asyncio.gather(*neighbours, return_exceptions=True)
    return {"let in": 0, "whole": 0, "neighbours failed": 0} | dict(sorted(counts.items()))


@contextmanager
def _daemon(folder: Path, scratch: Path) -> Iterator[str]:
    """A process of its own, so that what judges the answers does not hold up who makes them."""
    address, config = f"unix://{scratch}/bise.sock", scratch / "bise.yaml"
    config.write_text(f"context: 1024\nslots: {CALLERS + NEIGHBOURS}\n", encoding="utf-8")
    command = [sys.executable, "-m", "bise", "serve", "--bundle", str(folder), "--listen", address]
    process = subprocess.Popen([*command, "--config", str(config)], stderr=subprocess.DEVNULL)
    try:
        yield address
    finally:
        process.terminate()
        process.wait()


def _is_whole(schema: dict[str, Any], text: str) -> bool:
    try:
        Draft202012Validator(schema).validate(json.loads(text))
    except Exception as error:  # noqa: BLE001 - whatever it is, it counts
        print(f"not whole: {schema}: {text!r}: {error}")
        return False
    return True


class _Loop:
    """The daemon's engine without its sockets; nobody guesses."""

    def __init__(self, folder: Path) -> None:
        settings = {"bundle": str(folder), "threads": 2, "context": 1024, "slots": 1, "draft_tokens": 0}
        self._model = load_model(config_from_flags(settings))
        self._vocabulary = Vocabulary(self._model.tokenizer)

    def grammar(self, schema: dict[str, Any]) -> Grammar:
        """Of a schema, over this model's tokens."""
        return _compiled(schema, self._vocabulary)

    def ms_per_token(self, grammar: Grammar | None, tokens: int, known_tokens: int | None = None) -> float:
        """Milliseconds for each token after the first."""
        model = self._model
        limits = model.limits if known_tokens is None else replace(model.limits, known_tokens=known_tokens)
        prompt = model.chat.encode([Message("user", _TASK)]).token_ids
        generation = Generation(
            Sampler(SamplingParams(), prompt),
            model.tokenizer.detokenizer(),
            StopMatcher([]),
            frozenset() if grammar is None else model.tokenizer.eos_token_ids,
            None if grammar is None else grammar.guide(max(tokens, grammar.shortest_tokens)),
        )
        done, last = threading.Event(), list[Any]()

        def take(events: Any) -> None:
            last[:] = [events[-1][1]]
            if isinstance(last[0], Finished | Failed):
                done.set()

        engine = Engine(Scheduler(limits, model.costs), model.session, model.cache, model.costs, take)
        engine.start()
        engine.submit(Request("one", prompt, tokens), generation)
        done.wait()
        engine.stop()
        assert isinstance(last[0], Finished), last[0]
        times = last[0].times
        assert times.ended is not None
        assert times.first_token is not None
        return (times.ended - times.first_token) / (last[0].completion_tokens - 1)


def _compiled(schema: dict[str, Any], vocabulary: Vocabulary) -> Grammar:
    form = Format(Kind.JSON_SCHEMA, json.dumps(schema))
    closing = attempt(form, vocabulary.special_names)
    assert isinstance(closing, list), closing
    return compile_format(form, vocabulary, closing)


def _mask_us(scratch: Path) -> dict[str, dict[str, float]]:
    """Microseconds that each token of a format costs beside a step, along JSON texts, by Mistral Small 3's tokens."""
    info = bundle_pb2.Tokenizer(kind=bundle_pb2.Tokenizer.TEKKEN, bos_token_id=1, eos_token_ids=[2])
    tokenizer = MistralCommonTokenizer.from_file(write_tokenizer(scratch), info)
    began = time.perf_counter()
    vocabulary = Vocabulary(tokenizer)
    made_us = (time.perf_counter() - began) * 1e6
    logits = np.random.default_rng(1).normal(size=tokenizer.vocab_size).astype(np.float32)
    figures: dict[str, list[float]] = {"which tokens are allowed": [], "the others' logits": [], "taking one": []}
    for schema, text in _TEXTS:
        grammar = _compiled(schema, vocabulary)
        for _ in range(10):
            guide, rest = grammar.guide(1000), vocabulary.encode(text.encode())
            while rest:
                moments = [time.perf_counter()]
                allowed = guide.allowed(logits.size)
                moments.append(time.perf_counter())
                among(logits, allowed)
                moments.append(time.perf_counter())
                course = guide.take(rest[0])
                moments.append(time.perf_counter())
                said = b"".join(map(tokenizer.token_bytes, course.tokens))
                left = b"".join(map(tokenizer.token_bytes, rest))
                assert left.startswith(said), (said, left)
                rest = vocabulary.encode(left[len(said) :])
                for each, (start, end) in zip(figures.values(), itertools.pairwise(moments), strict=True):
                    each.append((end - start) * 1e6)
    figures["all of it"] = [sum(parts) for parts in zip(*figures.values(), strict=True)]
    table = {name: _quantiles(values) for name, values in figures.items()}
    return table | {"making the vocabulary, once": _quantiles([made_us])}


def _quantiles(values: list[float]) -> dict[str, float]:
    at = np.quantile(values, [0.5, 0.99, 1]).tolist()
    return {"median": at[0], "mean": statistics.fmean(values), "p99": at[1], "max": at[2]}


_TEXTS = (
    (
        _TOOL_CALL,
        '{"name": "set_climate_control", "arguments": {"temperature_celsius": 21, "ventilation_direction": "face", '
        '"recirculation_enabled": false, "passenger_side_as_well": true}}',
    ),
    (
        _LONG_TEXT,
        '{"text": "The wind from the north is cold, and people speak of it as they do of a guest."}',
    ),
    (
        closed(
            {"people": {"type": "array", "items": closed({"name": {"type": "string"}, "age": {"type": "integer"}})}}
        ),
        '{"people": [{"name": "Anna Bell", "age": 42}, {"name": "Jörg", "age": 7}, {"name": "Mei", "age": 19}]}',
    ),
)
