"""Bundles of the tiny models, put together from the export's parts, for tests of what reads bundles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
from google.protobuf import json_format
from tokenizers import Tokenizer, models

from bise_export.architecture import architecture_of
from bise_export.budget import Pieces
from bise_export.calibration import calibrate
from bise_export.contents import matrices, vectors
from bise_export.graph.attention import COS_TABLE, SIN_TABLE, scale_name
from bise_export.graph.decoder import build
from bise_export.quant.kv import FloatCache, Int8Cache
from bise_export.quant.recipes import Precision, PromptAttention, recipe
from bise_export.quant.store import store_matrices, store_vectors
from bise_export.reference import rotary_tables
from bise_export.sources.weight import Weight
from bise_export.spec import ModelSpec
from bise_export.writer import Layout, WeightFile
from bise_proto.bundle import FORMAT_VERSION, MANIFEST, describe
from bise_proto.v1 import bundle_pb2
from golden.in_memory import weights_of

BLOCK_SIZE = 32


@dataclass(frozen=True)
class Kind:
    """What to make of a checkpoint."""

    precision: Precision = "fp32"
    kv: str = "float32"
    prompt_attention: PromptAttention = "fused"


def write(
    folder: Path,
    spec: ModelSpec,
    kind: Kind,
    prompts: Sequence[Sequence[int]],
    weights: Mapping[str, Weight] | None = None,
) -> bundle_pb2.Bundle:
    """Writes a bundle into the new `folder`; int8 caches are calibrated on `prompts`."""
    weights = weights or weights_of(spec)
    folder.mkdir()
    chosen = replace(recipe(kind.precision, BLOCK_SIZE, "cpu"), prompt_attention=kind.prompt_attention)
    scales = calibrate(spec, weights, prompts).scales if kind.kv == "int8" else ()
    cache = Int8Cache(scales) if scales else FloatCache(np.dtype(kind.kv))
    layout = Layout()
    model = build(spec, chosen, cache, spec.trained_context, layout, "model.onnx.data", "test")
    ir.save(model, folder / "model.onnx")
    with WeightFile(folder / "model.onnx.data", layout) as file:
        store_matrices(matrices(spec, chosen), weights, file, Pieces(1, 1 << 20), lambda _count: None)
        store_vectors(vectors(spec), weights, chosen.activations, file)
        for name, table in zip((COS_TABLE, SIN_TABLE), rotary_tables(spec, spec.trained_context), strict=True):
            file.write(name, table)
        for layer, each in enumerate(scales):
            file.write(scale_name(layer, "key"), each.key)
            file.write(scale_name(layer, "value"), each.value)
    _write_tokenizer(folder, spec.vocab_size)
    bundle = _manifest(folder, spec, kind)
    (folder / MANIFEST).write_text(json_format.MessageToJson(bundle, preserving_proto_field_name=True))
    return bundle


def _write_tokenizer(folder: Path, vocab_size: int) -> None:
    """A byte-level tokenizer of `vocab_size` ids: every character up to U+00FF is one token, the rest is unknown."""
    vocab = {chr(code) if code < 256 else f"<{code}>": code for code in range(vocab_size)}
    (folder / "tokenizer").mkdir()
    Tokenizer(models.BPE(vocab, [], unk_token="<300>")).save(str(folder / "tokenizer" / "tokenizer.json"))


def _manifest(folder: Path, spec: ModelSpec, kind: Kind) -> bundle_pb2.Bundle:
    names = ("model.onnx", "model.onnx.data", "tokenizer/tokenizer.json")
    return bundle_pb2.Bundle(
        format_version=FORMAT_VERSION,
        name="tiny",
        version="1",
        architecture=architecture_of(spec),
        graph=bundle_pb2.Graph(
            target="cpu",
            context=spec.trained_context,
            logits_dtype="float32",
            model_file="model.onnx",
            weight_files=["model.onnx.data"],
            prompt_attention=kind.prompt_attention,
        ),
        kv_cache=bundle_pb2.KvCache(
            dtype=kind.kv, bytes_per_token=2 * spec.num_layers * spec.kv_size * np.dtype(kind.kv).itemsize
        ),
        quantization=bundle_pb2.Quantization(precision=kind.precision, block_size=BLOCK_SIZE),
        tokenizer=bundle_pb2.Tokenizer(
            kind=bundle_pb2.Tokenizer.TOKENIZERS,
            file="tokenizer/tokenizer.json",
            add_bos=True,
            bos_token_id=spec.bos_token_id,
            eos_token_ids=spec.eos_token_ids,
        ),
        chat_format=bundle_pb2.NONE,
        provenance=bundle_pb2.Provenance(source_kind="test"),
        files=[describe(folder, name) for name in names],
    )
