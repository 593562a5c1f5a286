"""What each precision costs against the checkpoint in float32, beside llama.cpp's quantizations of the same weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from tests.bench import models
from tests.bench.rounds import machine
from tests.bench.unseen import TEXTS as UNSEEN

from bise_export import findings
from bise_export.agreement import Agreement, compare
from bise_export.decoded import read_model
from bise_export.pipeline import ExportOptions
from bise_export.planning import Bits, Fit
from bise_export.prompts import VERIFICATION, token_prompts
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
    ExportOptions(precision="int4", vocabulary="int4"),
)
BITS = (4.5, 4.0, 3.5, 3.0)
PEERS = ("Q8_0", "Q4_K_M", "Q4_0", "Q3_K_M", "Q2_K")
# The peers at whose size a plan is made: rows of 576 have no super-blocks, so llama.cpp stores most of these in others.
RIVALS = ("Q4_K_M", "Q4_0", "Q2_K")
MEAN_KL_BAR, TOP1_BAR = 0.01, 0.97

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
    for label, options in _variants():
        folder = models.bundle(options)
        bundle = read_manifest(folder)
        asked = asked or [Asked.of(texts, checkpoint, folder) for texts in (VERIFICATION, UNSEEN)]
        model = read_model(folder / bundle.graph.model_file)
        runner = Runner(
            folder, model.SerializeToString(), "cpu", max(len(each) for one in asked for each in one.prompts)
        )
        activations, cache = bundle.quantization.activations, bundle.kv_cache.dtype
        name = f"bise {label}, {activations} activations, {cache} cache"
        rows[name] = _row(*asked, runner.logits, _size(folder), bundle.architecture.parameters)
    for name, path in (
        ("llama.cpp, the checkpoint itself (Q4_1)", models.GGUF),
        *((f"llama.cpp {kind}", models.gguf(kind)) for kind in PEERS),
    ):
        rows[name] = _row(*asked, _llama(path), path.stat().st_size, bundle.architecture.parameters)
    int8 = rows["bise int8, int16 activations, float32 cache"]
    return {
        "what": "KL(float32 checkpoint || quantized) in nats and top-1 agreement, on the verification prompts; "
        "unseen_mean_kl on texts that nothing was fitted to",
        "machine": machine(),
        "positions": sum(map(len, asked[0].prompts)),
        "unseen_positions": sum(map(len, asked[1].prompts)),
        "table": rows,
        "ratios": {
            "int8 mean KL": int8["mean_kl"],
            "int8 top-1": int8["top1_agreement"],
            **{
                f"mean KL at the size of {kind} / {kind}'s": rows[_plan(f"size of {kind}")]["mean_kl"]
                / rows[f"llama.cpp {kind}"]["mean_kl"]
                for kind in RIVALS
            },
        },
        "bars": {"int8 mean KL": MEAN_KL_BAR, "int8 top-1": TOP1_BAR}
        | {f"mean KL at the size of {kind} / {kind}'s": 1 for kind in RIVALS},
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
