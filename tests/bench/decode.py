"""One row of decode: bise's engine loop beside llama.cpp, both greedy, on the same weights and prompt."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from tests.bench import models
from tests.bench.rounds import Figures, interleave, machine, ratio, summary

from bise_daemon.config.load import config_from_flags
from bise_daemon.engine.detokenize import StopMatcher
from bise_daemon.engine.events import Failed, Finished
from bise_daemon.engine.generation import Generation
from bise_daemon.engine.loop import Engine
from bise_daemon.engine.sampling import Sampler, SamplingParams
from bise_daemon.models.model import load_model
from bise_daemon.scheduler.request import Request
from bise_daemon.scheduler.scheduler import Scheduler
from bise_export.pipeline import ExportOptions
from bise_export.planning import Bits

PROMPT = (
    "The bise is a cold wind from the north-east that blows over the Swiss plateau and down Lake Geneva. In winter its "
    "spray freezes on the railings of the quays, and in summer it brings clear skies."
)
THREADS = 2
TOKENS = 128
ROUNDS = 15
# bise's options and llama.cpp's quantization of the same checkpoint.
PAIRS = (
    ("int4", ExportOptions(precision="int4"), "Q4_0"),
    ("int4, vocabulary int8", ExportOptions(precision="int4", vocabulary="int8"), "Q4_0"),
    ("int8", ExportOptions(precision="int8"), "Q8_0"),
    *(
        (f"{bits} bits", ExportOptions(precision="mixed", goal=Bits(bits)), kind)
        for bits, kind in ((4.5, "Q4_K_M"), (4.0, "Q4_0"), (3.5, "Q3_K_M"), (3.0, "Q2_K"))
    ),
    ("int8, int8 activations", ExportOptions(precision="int8", activations="int8"), "Q8_0"),
)
BAR = 1.15


class EngineLoop:
    """The daemon's engine without its sockets: scheduler, onnxruntime, sampling, detokenizing.

    Nobody guesses: a small model's greedy answer repeats itself, and prompt lookup would take a third of the steps.
    """

    def __init__(self, folder: Path) -> None:
        settings = {"bundle": str(folder), "threads": THREADS, "context": 1024, "slots": 1, "draft_tokens": 0}
        self._model = load_model(config_from_flags(settings))
        self._done = threading.Event()
        self._last: Any = None
        model = self._model
        scheduler = Scheduler(model.limits, model.costs)
        self._engine = Engine(scheduler, model.session, model.cache, model.costs, self._take)
        self._engine.start()
        self._runs = 0

    def ms_per_token(self) -> float:
        """Milliseconds for each token after the first."""
        tokenizer = self._model.tokenizer
        prompt = tokenizer.encode(PROMPT)
        generation = Generation(
            Sampler(SamplingParams(), prompt), tokenizer.detokenizer(), StopMatcher([]), frozenset()
        )
        self._runs += 1
        self._done.clear()
        self._engine.submit(Request(str(self._runs), prompt, TOKENS), generation)
        self._done.wait()
        assert isinstance(self._last, Finished), self._last
        times = self._last.times
        assert times.ended is not None
        assert times.first_token is not None
        return (times.ended - times.first_token) / (TOKENS - 1)

    def close(self) -> None:
        """Ends the engine's thread."""
        self._engine.stop()

    def _take(self, events: Any) -> None:
        self._last = events[-1][1]
        if isinstance(self._last, Finished | Failed):
            self._done.set()


class LlamaCpp:
    """llama.cpp's decode call in the tightest loop Python allows."""

    def __init__(self, path: Path) -> None:
        self._llama = models.llama(path, 1024, THREADS)
        self._prompt = self._llama.tokenize(PROMPT.encode(), add_bos=False)

    def ms_per_token(self) -> float:
        """Milliseconds for each token after the first."""
        self._llama.reset()
        self._llama.eval(self._prompt)
        token = self._greedy()
        began = time.perf_counter()
        for _ in range(TOKENS - 1):
            self._llama.eval([token])
            token = self._greedy()
        return (time.perf_counter() - began) * 1e3 / (TOKENS - 1)

    def _greedy(self) -> int:
        logits = self._llama._ctx.get_logits()
        return int(np.ctypeslib.as_array(logits, shape=(self._llama.n_vocab(),)).argmax())


def run() -> dict[str, Any]:
    """The table, as plain values; each precision is run against its peer alone, so that only two share the machine."""
    figures: Figures = {}
    ratios: dict[str, float] = {}
    for name, options, kind in PAIRS:
        loop = EngineLoop(models.bundle(options))
        peer = LlamaCpp(models.gguf(kind))
        contenders = {f"bise {name}": loop.ms_per_token, f"llama.cpp {kind}, beside it": peer.ms_per_token}
        pair = interleave(contenders, ROUNDS)
        loop.close()
        ratios[f"llama.cpp {kind} / bise {name}"] = ratio(pair, f"llama.cpp {kind}, beside it", f"bise {name}")
        figures |= {f"bise {name}": pair[f"bise {name}"]}
        figures |= {f"llama.cpp {kind}, beside {name}": pair[f"llama.cpp {kind}, beside it"]}
    return {
        "what": f"milliseconds a token, one row, greedy, {TOKENS} tokens after a prompt of about 50, {THREADS} threads",
        "machine": machine(),
        "rounds": figures,
        "summary": summary(figures),
        "ratios": ratios,
        "bars": {"llama.cpp Q4_0 / bise int4": BAR, "llama.cpp Q4_0 / bise int4, vocabulary int8": BAR},
    }
