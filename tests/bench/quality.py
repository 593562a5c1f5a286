"""What each precision costs and takes against the checkpoint in float32, beside llama.cpp's of the same weights.

`python -m tests.bench quality` takes some 15 minutes and 6 GB; its times mean something only where nothing else runs.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from tests.bench import models
from tests.bench.decode import EngineLoop, LlamaCpp
from tests.bench.rounds import Figures, interleave, machine
from tests.bench.unseen import TEXTS as UNSEEN

from bise_export import findings
from bise_export.agreement import Agreement, compare
from bise_export.decoded import read_model
from bise_export.pipeline import ExportOptions
from bise_export.planning import Bits, Fit
from bise_export.prompts import VERIFICATION, token_prompts
from bise_export.quant.kv import KvPrecision
from bise_export.quant.recipes import Precision
from bise_export.quant.sensitivity import losses
from bise_export.reference import Reference
from bise_export.runner import Runner
from bise_export.sources.checkpoint import Checkpoint
from bise_export.sources.open import open_checkpoint
from bise_export.sources.weight import Float32
from bise_proto.bundle import read_manifest

FIXED = (
    ExportOptions(precision="fp32"),
    ExportOptions(precision="int8"),
    ExportOptions(precision="int8", activations="int8"),
    ExportOptions(precision="int4"),
    ExportOptions(precision="int4", vocabulary="int8"),
    ExportOptions(precision="int4", vocabulary="int4"),
)
BITS = (4.5, 4.0, 3.5, 3.0)
PEERS = ("Q8_0", "Q4_K_M", "Q4_0", "Q3_K_M", "Q2_K")
# The peers at whose size a plan is made: rows of 576 have no super-blocks, so llama.cpp stores most of these in others.
RIVALS = ("Q4_K_M", "Q4_0", "Q2_K")
MEAN_KL_BAR, TOP1_BAR, CACHE_BAR = 0.01, 0.97, 0.005
# Weights that an int8 cache is laid beside a float32 one with.
CACHED: tuple[Precision, ...] = ("fp32", "int8", "int4")
DECODE_ROUNDS = 9

Logits = Callable[[Sequence[int]], Float32]


@dataclass(frozen=True)
class Asked:
    """Prompts, and what the checkpoint itself answers: logits [tokens, vocabulary] of each."""

    prompts: Sequence[Sequence[int]]
    expected: Sequence[Float32]

    @classmethod
    def of(cls, texts: Sequence[str], checkpoint: Checkpoint, folder: Path) -> Asked:
        """The texts as a bundle of the checkpoint tokenizes them."""
        prompts = token_prompts(folder, read_manifest(folder).tokenizer, texts)
        return cls(prompts, list(Reference(checkpoint.spec, checkpoint.weights).each_logits(prompts)))

    @property
    def longest(self) -> int:
        """Tokens of a prompt."""
        return max(map(len, self.prompts))

    def against(self, logits: Logits) -> Agreement:
        """How far another's answers agree with them."""
        return compare((prompt, one, logits(prompt)) for prompt, one in zip(self.prompts, self.expected, strict=True))


def run() -> dict[str, Any]:
    """The table, as plain values."""
    measured: dict[str, float] = {}

    def losses_once(*arguments: Any) -> Mapping[str, float]:
        """All plans are of one checkpoint, whose sensitivities are the same each time."""
        if not measured:
            measured.update(losses(*arguments))
        return measured

    with patch.object(findings, "losses", losses_once):
        return _table()


def _table() -> dict[str, Any]:
    checkpoint = open_checkpoint(models.GGUF)
    rows: dict[str, dict[str, float]] = {}
    asked: list[Asked] = []
    folders: dict[str, Path] = {}
    for label, options in _variants():
        folder = models.bundle(options)
        bundle = read_manifest(folder)
        asked = asked or [Asked.of(texts, checkpoint, folder) for texts in (VERIFICATION, UNSEEN)]
        activations, cache = bundle.quantization.activations, bundle.kv_cache.dtype
        name = f"bise {label}, {activations} activations, {cache} cache"
        logits = _bise(folder, max(each.longest for each in asked))
        rows[name], folders[name] = _row(*asked, logits, _size(folder), bundle.architecture.parameters), folder
    files = {"llama.cpp, the checkpoint itself (Q4_1)": models.GGUF}
    files |= {f"llama.cpp {kind}": models.gguf(kind) for kind in PEERS}
    for name, path in files.items():
        rows[name] = _row(*asked, _llama(path), path.stat().st_size, bundle.architecture.parameters)
    figures = _decode_ms(folders, files)
    for name, values in figures.items():
        rows[name]["decode_ms"] = statistics.median(values)
    int8 = rows["bise int8, int16 activations, float32 cache"]
    added = {precision: _cache_row(precision, asked[0]) for precision in CACHED}
    return {
        "what": "KL(float32 checkpoint || quantized) in nats and top-1 agreement, on the verification prompts; "
        "unseen_mean_kl on texts that nothing was fitted to",
        "machine": machine(),
        "positions": sum(map(len, asked[0].prompts)),
        "unseen_positions": sum(map(len, asked[1].prompts)),
        "table": rows | {f"int8 cache beside a float32 one, {name} weights": row for name, row in added.items()},
        "decode_rounds": figures,
        "ratios": {
            "int8 mean KL": int8["mean_kl"],
            "int8 top-1": int8["top1_agreement"],
            **{
                f"mean KL at the size of {kind} / {kind}'s": rows[_plan(f"size of {kind}")]["mean_kl"]
                / rows[f"llama.cpp {kind}"]["mean_kl"]
                for kind in RIVALS
            },
            **{f"mean KL that an int8 cache adds, {name} weights": row["added_kl"] for name, row in added.items()},
        },
        "bars": {"int8 mean KL": MEAN_KL_BAR, "int8 top-1": TOP1_BAR}
        | {f"mean KL at the size of {kind} / {kind}'s": 1 for kind in RIVALS}
        | {f"mean KL that an int8 cache adds, {name} weights": CACHE_BAR for name in CACHED},
    }


def _decode_ms(folders: Mapping[str, Path], files: Mapping[str, Path]) -> Figures:
    """Milliseconds a token of one row, all in turn."""
    loops = {name: EngineLoop(folder) for name, folder in folders.items()}
    peers = {name: LlamaCpp(path) for name, path in files.items()}
    figures = interleave({name: each.ms_per_token for name, each in (loops | peers).items()}, DECODE_ROUNDS)
    for loop in loops.values():
        loop.close()
    return figures


def _cache_row(precision: Precision, asked: Asked) -> dict[str, float]:
    """What an int8 cache costs the same weights: against their own float32 cache, and on top of its KL."""

    def found(kv: KvPrecision) -> list[Float32]:
        logits = _bise(models.bundle(ExportOptions(precision=precision, kv=kv)), asked.longest)
        return [logits(prompt) for prompt in asked.prompts]

    exact, rounded = found("fp32"), found("int8")
    prompts, expected = asked.prompts, asked.expected
    beside = compare(zip(prompts, exact, rounded, strict=True))
    return {
        "mean_kl": beside.mean_kl,
        "p99_kl": beside.p99_kl,
        "top1_agreement": beside.top1_agreement,
        "perplexity_ratio": beside.perplexity_ratio,
        "added_kl": compare(zip(prompts, expected, rounded, strict=True)).mean_kl
        - compare(zip(prompts, expected, exact, strict=True)).mean_kl,
    }


def _variants() -> Iterator[tuple[str, ExportOptions]]:
    for options in FIXED:
        yield options.precision + (f" vocabulary {options.vocabulary}" if options.vocabulary else ""), options
    for bits in BITS:
        yield f"{bits} bits", ExportOptions(precision="mixed", goal=Bits(bits))
        yield f"{bits} bits, blocks to 128", ExportOptions(precision="mixed", goal=Bits(bits), block_size=128)
    for kind in RIVALS:
        yield f"size of {kind}", ExportOptions(precision="mixed", goal=Fit(models.gguf(kind).stat().st_size))


def _plan(label: str) -> str:
    return f"bise {label}, int8 activations, int8 cache"


def _bise(folder: Path, longest: int) -> Logits:
    graph = read_manifest(folder).graph
    model = read_model(folder / graph.model_file).SerializeToString()
    return Runner(folder, model, graph.target, longest).logits


def _llama(path: Path) -> Logits:
    model = models.llama(path, 1024, 2, logits_all=True)

    def logits(prompt: Sequence[int]) -> Float32:
        model.reset()
        model.eval(list(prompt))
        return np.array(model.scores[: len(prompt)], np.float32)

    return logits


def _row(verification: Asked, unseen: Asked, logits: Logits, size_bytes: int, parameters: int) -> dict[str, float]:
    """`bits` are of the whole: tokenizer, tables and all."""
    agreement = verification.against(logits)
    return {
        "mean_kl": agreement.mean_kl,
        "unseen_mean_kl": unseen.against(logits).mean_kl,
        "p99_kl": agreement.p99_kl,
        "top1_agreement": agreement.top1_agreement,
        "perplexity_ratio": agreement.perplexity_ratio,
        "size_mb": size_bytes / 1e6,
        "bits": 8 * size_bytes / parameters,
    }


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
