"""The manifest of a bundle, from what the export decided."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

from google.protobuf import json_format

from bise_export.architecture import architecture_of
from bise_export.contents import Matrix, Vector
from bise_export.quant.kv import Cache
from bise_export.quant.recipes import Recipe
from bise_export.rounding import rounding_of
from bise_export.sources.checkpoint import Checkpoint, TokenizerInfo
from bise_proto.bundle import FORMAT_VERSION, MANIFEST, describe, sha256
from bise_proto.v1 import bundle_pb2

MODEL_FILE = "model.onnx"
WEIGHT_FILE = "model.onnx.data"
_TOOLS = ("bise", "onnx-ir", "gguf", "numpy")


def manifest(
    checkpoint: Checkpoint,
    recipe: Recipe,
    cache: Cache,
    context: int,
    matrices: Iterable[Matrix],
    vectors: Iterable[Vector],
    tokenizer: TokenizerInfo,
    name: str,
    bundle_version: str,
    notes: Sequence[str] = (),
) -> bundle_pb2.Bundle:
    """Everything but accuracy, source hashes and files, which come last.

    Args:
        notes: what a person should know, besides the checkpoint's own.
    """
    spec = checkpoint.spec
    return bundle_pb2.Bundle(
        format_version=FORMAT_VERSION,
        name=name,
        version=bundle_version,
        architecture=architecture_of(spec),
        graph=bundle_pb2.Graph(
            target=recipe.target,
            context=context,
            logits_dtype=recipe.activations.name,
            model_file=MODEL_FILE,
            weight_files=[WEIGHT_FILE],
            prompt_attention=recipe.prompt_attention,
        ),
        kv_cache=bundle_pb2.KvCache(
            dtype=cache.dtype.name, bytes_per_token=2 * spec.num_layers * spec.kv_size * cache.dtype.itemsize
        ),
        quantization=_quantization(recipe, matrices, vectors, tied=spec.tied_embeddings),
        tokenizer=tokenizer.tokenizer,
        chat_format=tokenizer.chat_format,
        provenance=bundle_pb2.Provenance(
            source_kind=checkpoint.kind,
            tools={tool: version(tool) for tool in _TOOLS},
            notes=[*checkpoint.notes, *notes],
        ),
    )


def write_manifest(folder: Path, bundle: bundle_pb2.Bundle, sources: Iterable[Path], threads: int = 1) -> None:
    """Completes the manifest with what was read and what was written, and writes it.

    Args:
        threads: that hash, a file each.
    """
    written = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    with ThreadPoolExecutor(threads) as pool:
        read = pool.map(_source, sources)
        files = pool.map(lambda name: describe(folder, name), written)
        bundle.provenance.source_files.extend(read)
        bundle.files.extend(files)
    values = json_format.MessageToDict(bundle, preserving_proto_field_name=True)
    # A protobuf map has another order in each process, and the same export is to give the same file.
    tools = values["provenance"]["tools"]
    values["provenance"]["tools"] = dict(sorted(tools.items()))
    (folder / MANIFEST).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _source(path: Path) -> bundle_pb2.File:
    return bundle_pb2.File(path=path.name, size_bytes=path.stat().st_size, sha256=sha256(path))


def _quantization(
    recipe: Recipe, matrices: Iterable[Matrix], vectors: Iterable[Vector], *, tied: bool
) -> bundle_pb2.Quantization:
    classes: dict[tuple[str, str, str], bundle_pb2.TensorClass] = {}

    def count(kind: str, form: str, rounding: str, parameters: int, size_bytes: int) -> None:
        new = bundle_pb2.TensorClass(name=kind, format=form, rounding=rounding)
        found = classes.setdefault((kind, form, rounding), new)
        found.parameters += parameters
        found.bytes += size_bytes

    for matrix in matrices:
        stored = matrix.format.tensors(matrix.rows, matrix.columns)
        size_bytes = matrix.rows * sum(tensor.row_bytes for tensor in stored)
        rounding = rounding_of(matrix, recipe, tied=tied)
        count(matrix.kind, matrix.format.name, rounding, matrix.rows * matrix.columns, size_bytes)
    floats = recipe.activations.itemsize
    for vector in vectors:
        count(vector.kind, f"fp{8 * floats}", "", vector.size, vector.size * floats)
    total_bytes = sum(each.bytes for each in classes.values())
    total_parameters = sum(each.parameters for each in classes.values())
    return bundle_pb2.Quantization(
        precision=recipe.precision,
        block_size=recipe.block_size if recipe.precision.startswith("int") else 0,
        bits_per_weight=8 * total_bytes / total_parameters,
        classes=list(classes.values()),
        activations=_activations(recipe),
    )


def _activations(recipe: Recipe) -> str:
    if not recipe.quantized or recipe.target != "cpu":
        return recipe.activations.name
    return "int16" if recipe.two_pass else "int8"
