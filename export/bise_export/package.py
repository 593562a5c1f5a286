"""Packaging, on one screen: read → put under bise's contract → write → prove → publish."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import numpy as np
import onnx_ir as ir

from bise_export import resumption
from bise_export.errors import ExportError
from bise_export.foreign.contract import under_contract
from bise_export.foreign.decoder import Decoder, Growth, read_decoder
from bise_export.foreign.facts import Facts, read_facts
from bise_export.foreign.proof import prove
from bise_export.manifest import MODEL_FILE, WEIGHT_FILE, write_manifest
from bise_export.publish import check_room, published
from bise_export.sources.checkpoint import TokenizerInfo
from bise_export.sources.tokenizer.folder import find_tokenizer
from bise_export.verify import accuracy_message
from bise_proto.bundle import FOREIGN, FORMAT_VERSION
from bise_proto.v1 import bundle_pb2

_TOOLS = ("bise", "onnx-ir", "numpy")
_REFERENCE = "the graph as it came, in onnxruntime"
_DEFAULT_CONTEXT = 32768
# Smaller ones stay in the model file, larger ones lie on pages of their own: onnxruntime maps those in place.
_INLINE_BYTES, _ALIGNMENT_BYTES = 1024, 4096


@dataclass(frozen=True, slots=True)
class PackageOptions:
    """What a person can choose.

    Attributes:
        tokenizer: the folder with the tokenizer; None is the graph's.
        context: tokens one row may hold; None is the trained context, at most 32,768.
        name: of the bundle; None is the graph's folder's.
        overwrite: replace a bundle that is there.
    """

    tokenizer: Path | None = None
    context: int | None = None
    name: str | None = None
    version: str = "1"
    overwrite: bool = False


class Steps(Protocol):
    """Who is told how it goes."""

    def step(self, name: str) -> None:
        """A new step begins."""
        ...


def package(file: Path, target: Path, options: PackageOptions, progress: Steps) -> bundle_pb2.Bundle:
    """Wraps the decoder in the .onnx `file` into a bundle at `target`.

    Returns:
        The manifest of the published bundle.

    Raises:
        ExportError: the decoder or what is beside it is broken or unsupported; nothing is left at `target`.
        BundleError: onnxruntime can't load it.
    """
    progress.step("reading the decoder")
    decoder = read_decoder(file)
    facts = read_facts(file.parent, decoder)
    tokenizer = find_tokenizer(options.tokenizer or file.parent, facts)
    context = _context(facts, decoder, options.context)
    model = under_contract(decoder, facts.head_dim, facts.vocab_size)
    with published(target, replace=options.overwrite, identity=f"package {file.resolve()}") as draft:
        folder = draft.folder
        resumption.clear(folder, "")  # nothing of a killed run is kept: there is no work to save
        check_room(folder, sum(each.stat().st_size for each in decoder.files))
        written = tokenizer.write(folder)
        progress.step("writing the weights")
        ir.save(
            model,
            folder / MODEL_FILE,
            external_data=WEIGHT_FILE,
            size_threshold_bytes=_INLINE_BYTES,
            alignment=_ALIGNMENT_BYTES,
            align_threshold=_ALIGNMENT_BYTES,
        )
        (folder / WEIGHT_FILE).touch()  # a tiny decoder has no tensor that large
        progress.step("proving it against the graph as it came")
        agreement = prove(file, folder, MODEL_FILE, decoder, facts.head_dim, facts.vocab_size)
        bundle = _manifest(decoder, facts, written, context, options, file.resolve().parent.name)
        bundle.accuracy.CopyFrom(accuracy_message(agreement, _REFERENCE, version("onnxruntime")))
        progress.step("hashing and publishing")
        write_manifest(folder, bundle, (*decoder.files, *facts.files, *tokenizer.files))
    return bundle


def _context(facts: Facts, decoder: Decoder, asked: int | None) -> int:
    most = min(facts.trained_context, decoder.positions or facts.trained_context)
    if asked is None:
        return min(most, _DEFAULT_CONTEXT)
    if not 1 <= asked <= most:
        raise ExportError(f"--context: expected 1 to {most}, which the graph is made for, got {asked}.")
    return asked


def _manifest(
    decoder: Decoder, facts: Facts, tokenizer: TokenizerInfo, context: int, options: PackageOptions, name: str
) -> bundle_pb2.Bundle:
    cache = np.dtype(decoder.cache_type.numpy())
    return bundle_pb2.Bundle(
        format_version=FORMAT_VERSION,
        name=options.name or name,
        version=options.version,
        architecture=bundle_pb2.Architecture(
            family=facts.family,
            num_layers=decoder.num_layers,
            hidden_size=facts.hidden_size,
            intermediate_size=facts.intermediate_size,
            num_heads=facts.num_heads,
            num_kv_heads=decoder.num_kv_heads,
            head_dim=facts.head_dim,
            vocab_size=facts.vocab_size,
            trained_context=facts.trained_context,
        ),
        graph=bundle_pb2.Graph(
            target="cpu",
            context=context,
            logits_dtype="float32",
            model_file=MODEL_FILE,
            weight_files=[WEIGHT_FILE],
        ),
        kv_cache=bundle_pb2.KvCache(
            dtype=cache.name,
            bytes_per_token=2 * decoder.num_layers * decoder.num_kv_heads * facts.head_dim * cache.itemsize,
        ),
        tokenizer=tokenizer.tokenizer,
        chat_format=tokenizer.chat_format,
        provenance=bundle_pb2.Provenance(
            source_kind=FOREIGN,
            tools={tool: version(tool) for tool in _TOOLS},
            notes=_notes(decoder, facts),
        ),
    )


def _notes(decoder: Decoder, facts: Facts) -> list[str]:
    notes = ["made by another exporter: its weights and operators are as they came"]
    if decoder.growth is Growth.APPENDED:
        notes.append("its attention copies the cache in every step, which slows long contexts down")
    if not facts.eos_token_ids:
        notes.append("no end token is known: answers end at max_tokens or a stop string")
    return notes
