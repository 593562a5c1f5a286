"""The export, on one screen: open → calibrate → plan → graph → quantize and write → verify → publish."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from math import inf, isfinite, prod
from pathlib import Path
from typing import Literal

import numpy as np
import onnx_ir as ir

from bise_export import contents, genai, resumption
from bise_export.budget import Ceiling
from bise_export.contents import Matrix
from bise_export.errors import ExportError, UnsupportedError
from bise_export.findings import Findings
from bise_export.graph import decoder, rope
from bise_export.graph.attention import COS_TABLE, SIN_TABLE, scale_name
from bise_export.graph.prompt_attention import chosen
from bise_export.journal import Journal
from bise_export.manifest import MODEL_FILE, WEIGHT_FILE, manifest, write_manifest
from bise_export.planning import Goal, around_matrices
from bise_export.prompts import token_prompts
from bise_export.publish import check_room, published
from bise_export.quant.kv import Cache, FloatCache, Int8Cache, KvPrecision
from bise_export.quant.recipes import (
    ActivationPrecision,
    Precision,
    PromptAttention,
    Recipe,
    Rounding,
    Target,
    VocabularyPrecision,
    recipe,
)
from bise_export.quant.store import store_matrices, store_vectors
from bise_export.rounding import TEXTS, rounding_for, rounding_of, store_compensated
from bise_export.sources.checkpoint import Checkpoint
from bise_export.sources.open import open_checkpoint
from bise_export.spec import ModelSpec
from bise_export.steps import Progress
from bise_export.verify import measure, measure_accuracy
from bise_export.writer import Layout, WeightFile
from bise_proto.v1 import bundle_pb2

Interop = Literal["genai"]

# Memory an export may take: the largest tensor as float32 three times over, and what Python and its libraries need.
_BASE_BYTES = 300_000_000
_LARGEST_TENSORS = 3
# What measuring accuracy takes: the process itself; logits of a prompt of 200 tokens, four times; and the weight file,
# for the kernels' own copy of it and pages of the file; halves become floats on cpu. SmolLM2's peaks: int4 537 MB,
# int8 598 MB, fp32 1,050 MB, fp16 1,130 MB.
_MEASURING_BYTES = 260_000_000
_LOGITS_BYTES = 4 * 200 * 4
_LOADED_COPIES: Mapping[Precision, float] = {"mixed": 1.25, "int4": 1.25, "int8": 1.25, "fp16": 2.75, "fp32": 1.25}
_DEFAULT_CONTEXT = 32768
# The cache a person gets who names none, by target and precision. Measured on SmolLM2, 716 positions: beside 8-bit
# weights an int8 cache costs as much as all else together (mean KL 0.0068 and 93.4 % the same next token, against
# 0.0045 and 95.5 % with fp32); beside 4-bit weights it is lost in theirs. fp16 loses nothing, but the CPU kernel
# converts its whole capacity at each step: 16 ms a token instead of 6.5. The CUDA kernel has no fp32.
_DEFAULT_KV: Mapping[Target, Mapping[Precision, KvPrecision]] = {
    "cpu": {"mixed": "int8", "int4": "int8", "int8": "fp32", "fp16": "fp32", "fp32": "fp32"},
    "cuda": {"mixed": "fp16", "int4": "fp16", "int8": "fp16", "fp16": "fp16", "fp32": "fp16"},
}


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What a person can choose.

    Attributes:
        precision: "mixed" goes with a `goal`.
        block_size: elements that share a scale, for int4 and int8; of "mixed", the largest block that 4 bits may have.
        goal: the size that formats are chosen for, matrix by matrix.
        kv: the cache's element type; None is int8 for int4 weights and fp32 for others, on cuda fp16.
        activations: what products of quantized weights see, on cpu; None is int16 for int8 weights, int8 for int4.
        vocabulary: of the embedding and head of int4 weights; None is graded, int8 for frequent tokens and int4 for
            rare ones.
        prompt_attention: over an int8 cache on cpu; None is float where that pays.
        symmetric: int4's blocks without zero points: smaller by a fortieth, and they lose more.
        rounding: of int4 and mixed weights; None is compensated for mixed below 4 billion parameters: see `rounding`.
        context: tokens one row may hold; None is the trained context, at most 32,768.
        name: of the bundle; None is the checkpoint's.
        overwrite: replace a bundle that is there.
        verify: prove the graph and measure accuracy; None is to measure accuracy if the memory of an export will do.
        threads: that read and quantize.
        interop: another engine that is to open the bundle too.
        max_memory_bytes: the most the process may hold; None holds to what an export promises anyway.
    """

    precision: Precision = "int4"
    block_size: int = 32
    goal: Goal | None = None
    kv: KvPrecision | None = None
    prompt_attention: PromptAttention | None = None
    context: int | None = None
    target: Target = "cpu"
    activations: ActivationPrecision | None = None
    vocabulary: VocabularyPrecision | None = None
    symmetric: bool = False
    rounding: Rounding | None = None
    name: str | None = None
    version: str = "1"
    overwrite: bool = False
    verify: bool | None = None
    threads: int = os.cpu_count() or 1
    interop: Interop | None = None
    max_memory_bytes: int | None = None


def export(source: Path, target: Path, options: ExportOptions, progress: Progress) -> bundle_pb2.Bundle:
    """Turns the checkpoint at `source` into a bundle at `target`.

    Returns:
        The manifest of the published bundle.

    Raises:
        ExportError: the source is broken or unsupported, the options don't go together, or there is no room; nothing
            is left at `target`. Where the process was killed or interrupted, the same call goes on from there.
    """
    progress.step("reading the checkpoint")
    return export_checkpoint(open_checkpoint(source), target, options, progress)


def export_checkpoint(
    checkpoint: Checkpoint, target: Path, options: ExportOptions, progress: Progress
) -> bundle_pb2.Bundle:
    """As `export`, of a checkpoint that is open."""
    context = _context(checkpoint.spec, options.context)
    notes = _rope_notes(checkpoint.spec, context)
    spec = checkpoint.spec.for_context(context)
    checkpoint = replace(checkpoint, spec=spec)
    base = recipe(
        options.precision,
        options.block_size,
        options.target,
        options.activations,
        options.vocabulary,
        symmetric=options.symmetric,
        rounding=rounding_for(options.rounding, options.precision, spec),
    )
    vectors, kind = contents.vectors(spec), _cache_kind(options)
    base = replace(base, prompt_attention=chosen(options.prompt_attention, options.target, kind, spec))
    _check_goal(options)

    def build(wanted: Recipe) -> tuple[ir.Model, Layout]:
        layout = Layout()
        return decoder.build(spec, wanted, kind, context, layout, WEIGHT_FILE, version("bise")), layout

    ceiling = Ceiling(options.max_memory_bytes or inf)
    head_bytes = 4 * spec.head_dim * spec.hidden_size
    ceiling.pieces(options.threads, head_bytes)  # refuses what is too low before anything is done
    deciding = replace(options, threads=1, max_memory_bytes=None, verify=None, overwrite=False)
    base_layout = build(base)[1]
    identity = resumption.identity(checkpoint, base_layout, deciding)
    with published(target, replace=options.overwrite, identity=identity) as draft:
        folder, journal = draft.folder, draft.journal
        if draft.problem:
            progress.warn(f"what an earlier export left beside {target} is not used: {draft.problem}.")
        check_room(folder, base_layout.size_bytes - resumption.clear(folder, WEIGHT_FILE))
        tokenizer = checkpoint.write_tokenizer(folder)
        if options.interop:
            genai.check(options.target, folder, tokenizer.tokenizer)
        findings = Findings(checkpoint, folder, tokenizer.tokenizer, ceiling, journal, progress)
        cache, importance, plan = findings.cache(kind), {}, base
        if base.weighted:
            importance = findings.importance(contents.matrices(spec, base))
        if options.goal is not None:
            around = around_matrices(folder, options.goal, base, spec, build)
            plan = replace(base, planned=findings.plan(options.goal, base, importance, around))
        model, layout = build(plan)
        matrices = contents.matrices(spec, plan)
        with WeightFile(folder / WEIGHT_FILE, layout, resumes=journal.resumes) as file:
            missing = _still_to_write(matrices, file, journal, progress)
            pieces = ceiling.pieces(options.threads, head_bytes)  # of what calibration left
            progress.step(f"writing {plan.precision} weights")
            progress.weights(sum(matrix.rows * matrix.columns for matrix in missing))
            store = partial(
                store_matrices,
                weights=checkpoint.weights,
                file=file,
                advance=progress.advance,
                ceiling=ceiling,
                finished=resumption.recorder(file, journal),
            )
            tied = spec.tied_embeddings
            later = [each for each in missing if rounding_of(each, plan, tied=tied) == "compensated"]
            store([each for each in missing if each not in later], pieces=pieces, importance=importance)
            if later:
                store_compensated(
                    spec,
                    checkpoint.weights,
                    later,
                    token_prompts(folder, tokenizer.tokenizer, TEXTS),
                    options.threads,
                    ceiling,
                    lambda matrix, found, some: store([matrix], pieces=some, importance={matrix.name: found}),
                )
            store_vectors(vectors, checkpoint.weights, plan.activations, file)
            _store_tables(file, spec, context, plan.activations, cache)
        ir.save(model, folder / MODEL_FILE)
        name = options.name or checkpoint.name
        bundle = manifest(checkpoint, plan, cache, context, matrices, vectors, tokenizer, name, options.version, notes)
        if options.interop:
            genai.write(folder, model, bundle)
        if _measures(options, spec, layout.size_bytes):
            progress.step("measuring accuracy")
            bundle.accuracy.CopyFrom(_accuracy(folder, bundle, checkpoint, thoroughly=options.verify is True))
        progress.step("hashing and publishing")
        write_manifest(folder, bundle, checkpoint.files, options.threads)
    return bundle


def _still_to_write(matrices: Sequence[Matrix], file: WeightFile, journal: Journal, progress: Progress) -> list[Matrix]:
    if not journal.resumes:
        return list(matrices)
    progress.step("proving what an earlier export wrote")
    missing, damaged = resumption.unproved(matrices, file, journal)
    if damaged:
        progress.warn(f"{len(damaged)} of its matrices are damaged and are written again, first {damaged[0]}.")
    return missing


def _context(spec: ModelSpec, asked: int | None) -> int:
    if asked is None:
        return min(spec.trained_context, _DEFAULT_CONTEXT)
    if not 1 <= asked <= spec.trained_context:
        raise ExportError(
            f"--context: expected 1 to {spec.trained_context}, which the model was trained for, got {asked}."
        )
    return asked


def _rope_notes(spec: ModelSpec, context: int) -> list[str]:
    """What to say of the choice that a bundle of this context makes for good."""
    short = spec.rope_scaling.short_context
    if short is None:
        return []
    kind, other = ("short", f"beyond {short:,}") if context <= short else ("long", f"of at most {short:,}")
    return [f"rotary embedding by its {kind} factors, for a context of {context:,}; one {other} takes the others"]


def _cache_kind(options: ExportOptions) -> Cache:
    """The cache that is asked for; the scales of an int8 one are still to be found."""
    kv = options.kv or _DEFAULT_KV[options.target][options.precision]
    if kv == "fp32" and options.target == "cuda":
        raise UnsupportedError("--kv fp32 --target cuda: expected fp16 or int8, the kernel has no fp32. Choose one.")
    return Int8Cache(()) if kv == "int8" else FloatCache(np.dtype(np.float16 if kv == "fp16" else np.float32))


def _check_goal(options: ExportOptions) -> None:
    if (options.precision == "mixed") != (options.goal is not None):
        raise UnsupportedError(
            f"--precision {options.precision}: expected --bits or --fit with mixed precision and with no other. "
            "Choose one of them."
        )


def _store_tables(file: WeightFile, spec: ModelSpec, context: int, dtype: np.dtype[np.floating], cache: Cache) -> None:
    for name, table in zip((COS_TABLE, SIN_TABLE), rope.tables(spec, context), strict=True):
        file.write(name, table.astype(dtype))
    if isinstance(cache, Int8Cache):
        for layer, scales in enumerate(cache.scales):
            file.write(scale_name(layer, "key"), scales.key)
            file.write(scale_name(layer, "value"), scales.value)


def _measures(options: ExportOptions, spec: ModelSpec, weight_bytes: int) -> bool:
    if options.verify is not None:
        return options.verify
    if options.target != "cpu" or find_spec("onnxruntime") is None:
        return False
    largest = max(prod(shape) for shape in spec.weight_shapes().values())
    allowed_bytes = options.max_memory_bytes or _LARGEST_TENSORS * 4 * largest + _BASE_BYTES
    graph_bytes = _LOADED_COPIES[options.precision] * weight_bytes + _LOGITS_BYTES * spec.vocab_size
    return _MEASURING_BYTES + graph_bytes <= allowed_bytes


def _accuracy(
    folder: Path, bundle: bundle_pb2.Bundle, checkpoint: Checkpoint, *, thoroughly: bool
) -> bundle_pb2.Accuracy:
    """What the graph loses; `thoroughly` also proves that it computes what its bytes say, which takes more memory."""
    if thoroughly:
        report = measure(folder, bundle, checkpoint)
        accuracy, problems = report.accuracy, report.problems
    else:
        accuracy, problems = measure_accuracy(folder, bundle, checkpoint), []
    assert accuracy is not None
    if not isfinite(accuracy.mean_kl):
        problems = [*problems, "the graph's logits: expected finite numbers, got others. Choose a higher --precision."]
    if problems:
        raise ExportError(" ".join(problems))
    return accuracy
