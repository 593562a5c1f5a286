"""Writes a bundle's graph and weights as this device packs them: one product at a time, whatever the model's size."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from io import BufferedWriter
from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto

from bise_daemon.specialise import graph
from bise_daemon.specialise.graph import GraphError, Place
from bise_daemon.specialise.packer import pack, run

MODEL_FILE, DATA_FILE = "model.onnx", "model.onnx.data"
# What is mapped must begin at a page.
_ALIGNMENT_BYTES = 4096
_COPY_BYTES = 8 << 20
_ROWS = 4


def write(model: Path, target: Path, alive: Callable[[], bool], tell: Callable[[int, int], None]) -> None:
    """Writes the specialised graph and its file of weights.

    Args:
        model: the bundle's graph, in its folder.
        target: a folder that is there and empty.
        alive: asked before each product; to go on is in vain when nobody waits any more.
        tell: hears before each how many of all products are done.

    Raises:
        GraphError: nothing can be gained for this graph, or its products can't be told apart by their scales.
    """
    source = graph.read(model)
    found = graph.products(source)
    if not found:
        raise GraphError(f"{model}: expected products of quantized weights, found none")
    scratch = target / "scratch"
    scratch.mkdir()
    stored = {tensor.name: tensor for tensor in graph.tensors(source)}
    hole = Place(DATA_FILE, 0, max(graph.place(stored[each.weight]).length for each in found))
    hollow: dict[str, TensorProto] = {}
    copied: dict[str, TensorProto] = {}
    hashes: set[str] = set()
    with (target / DATA_FILE).open("wb") as file:
        file.seek(hole.length)
        for done, product in enumerate(found):
            if not alive():
                raise GraphError("nobody waits for it any more")
            tell(done, len(found))
            true = graph.alone(source, product)
            saved = {tensor.name: tensor for tensor in graph.tensors(pack(true, model.parent, scratch))}
            blob = graph.packed(saved[product.weight])
            if blob is None:
                continue  # its kernel packs nothing
            for name in product.constants:
                copied[name] = graph.at(saved[name], _copy(scratch, graph.place(saved[name]), file))
            where = _copy(scratch, blob[1], file)
            file.flush()
            weight = stored[product.weight]
            empty = graph.at(weight, Place(DATA_FILE, 0, graph.place(weight).length))
            name = _hash(graph.hollow_alone(source, product, empty, copied), product.weight, target, scratch)
            if name in hashes:
                raise GraphError(f"{product.node.name}: expected scales of its own, got those of another product")
            hashes.add(name)
            full = hollow[product.weight] = graph.at(weight, graph.place(empty), (name, where))
            _check_equal(true, model.parent, graph.hollow_alone(source, product, full, copied), target)
        left = graph.needed(source, copied) - hollow.keys() - copied.keys()
        for name in sorted(left & stored.keys()):
            if graph.is_external(stored[name]):
                copied[name] = graph.at(stored[name], _copy(model.parent, graph.place(stored[name]), file))
        file.flush()
        os.fsync(file.fileno())
    shutil.rmtree(scratch)
    _save(graph.hollow_graph(source, hollow, copied), target / MODEL_FILE)


def _hash(model: ModelProto, weight: str, folder: Path, scratch: Path) -> str:
    """The name under which onnxruntime will look for what a hollow product packs to."""
    saved = next(tensor for tensor in graph.tensors(pack(model, folder, scratch)) if tensor.name == weight)
    blob = graph.packed(saved)
    if blob is None:
        raise GraphError(f"{weight}: expected to be packed with zeros as it is with its values")
    return blob[0]


def _check_equal(true: ModelProto, folder: Path, hollow: ModelProto, target: Path) -> None:
    """Both are equal to the last bit, for one row and for several, which other kernels multiply."""
    columns = true.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    values = np.random.default_rng(0).standard_normal((_ROWS, columns), np.float32)
    inputs = [values[:1], values]
    for one, other in zip(run(true, folder, inputs), run(hollow, target, inputs), strict=True):
        if one.tobytes() != other.tobytes():
            raise GraphError(f"{true.graph.output[0].name}: expected the same product of packed weights, got another")


def _copy(folder: Path, place: Place, file: BufferedWriter) -> Place:
    """Appends a tensor's bytes, at a page's beginning."""
    start = -(-file.tell() // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
    file.seek(start)
    with (folder / place.file).open("rb") as source:
        source.seek(place.offset)
        left = place.length
        while left:
            piece = source.read(min(left, _COPY_BYTES))
            if not piece:
                raise GraphError(f"{place.file}: expected {left} bytes more at its end")
            file.write(piece)
            left -= len(piece)
        # Nobody needs these pages again; 13 GB of them would push out what is about to be served.
        os.posix_fadvise(source.fileno(), place.offset, place.length, os.POSIX_FADV_DONTNEED)
    return Place(DATA_FILE, start, place.length)


def _save(model: ModelProto, path: Path) -> None:
    with path.open("wb") as file:
        file.write(model.SerializeToString())
        file.flush()
        os.fsync(file.fileno())
