"""A bundle's own weights, decoded from its bytes: the other end of what `quant` and `writer` wrote.

Nothing is taken from the exporter's memory, only the graph's initializers and the operators that read them, so a weight
packed or placed wrongly decodes wrongly here too, and parity against the running graph means something.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from bise_export.architecture import spec_of
from bise_export.contents import piece_name
from bise_export.quant.formats import unpack
from bise_export.quant.kv import LayerScales
from bise_export.sources.views import Rows, Stacked
from bise_export.sources.weight import Float32, Weight
from bise_proto.bundle import BundleError
from bise_proto.v1 import bundle_pb2

_MODEL_LIMIT_BYTES = 256 << 20
_DTYPES: Mapping[int, np.dtype[np.generic]] = {
    onnx.TensorProto.FLOAT: np.dtype(np.float32),
    onnx.TensorProto.FLOAT16: np.dtype(np.float16),
    onnx.TensorProto.UINT8: np.dtype(np.uint8),
}
# Matrices stored as one, rows below rows: canonical name to (stored name, its parts in order).
_PACKED = {
    part: (stored, parts)
    for stored, parts in {
        "self_attn.qkv_proj": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "mlp.gate_up_proj": ("mlp.gate_proj", "mlp.up_proj"),
    }.items()
    for part in parts
}
# Operators that read packed integers, and which of their inputs those are.
_BLOCK_OPERATORS = {"MatMulNBits": 1, "GatherBlockQuantized": 0}


@dataclass(frozen=True, slots=True)
class Tensor:
    """An initializer: its place in a weight file."""

    name: str
    file: Path
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    offset: int

    def rows(self, start: int, stop: int) -> NDArray[np.generic]:
        """Rows `start` to `stop` as stored, [stop - start, ...]."""
        row_elements = int(np.prod(self.shape[1:], dtype=np.int64))
        values = np.fromfile(
            self.file,
            self.dtype,
            (stop - start) * row_elements,
            offset=self.offset + start * row_elements * self.dtype.itemsize,
        )
        if values.size != (stop - start) * row_elements:
            raise BundleError(f"{self.file}: expected rows {start} to {stop} of {self.name}, found the end of the file")
        return values.reshape(stop - start, *self.shape[1:])


@dataclass(frozen=True, slots=True)
class Floating:
    """A weight stored as floats."""

    tensor: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return self.tensor.shape

    @property
    def dtype(self) -> str:
        return self.tensor.dtype.name

    @property
    def file(self) -> Path:
        return self.tensor.file

    def rows(self, start: int, stop: int) -> Float32:
        return self.tensor.rows(start, stop).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Blocked:
    """A matrix stored as blocks of small integers: `(integer - zero_point) * scale`, packed low bits first."""

    quantized: Tensor
    scales: Tensor
    zero_points: Tensor | None
    bits: int
    block_size: int
    columns: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.quantized.shape[0], self.columns)

    @property
    def dtype(self) -> str:
        return f"int{self.bits} block {self.block_size}"

    @property
    def file(self) -> Path:
        return self.quantized.file

    def rows(self, start: int, stop: int) -> Float32:
        count, blocks = stop - start, -(-self.columns // self.block_size)
        packed = self.quantized.rows(start, stop).astype(np.uint8, copy=False).reshape(count, -1)
        scales = self.scales.rows(start, stop).astype(np.float32).reshape(count, blocks, 1)
        values = unpack(packed, self.bits, blocks * self.block_size).astype(np.float32).reshape(count, blocks, -1)
        if self.zero_points is None:
            values -= 1 << (self.bits - 1)
        else:
            zeros = self.zero_points.rows(start, stop).astype(np.uint8, copy=False).reshape(count, -1)
            values -= unpack(zeros, self.bits, blocks)[..., None]
        values *= scales
        return values.reshape(count, -1)[:, : self.columns]


class Decoded:
    """A bundle's graph file, opened for its weights.

    Raises:
        BundleError: the graph can't be parsed, lacks a weight, or places one outside the listed weight files.
        SourceError: the manifest's architecture is out of bounds.
    """

    def __init__(self, folder: Path, bundle: bundle_pb2.Bundle) -> None:
        self.spec = spec_of(bundle)
        self._path = folder / bundle.graph.model_file
        self._weight_files = {name: folder / name for name in bundle.graph.weight_files}
        graph = read_model(self._path).graph
        self._initializers = {initializer.name: initializer for initializer in graph.initializer}
        self._blocks = {
            node.input[_BLOCK_OPERATORS[node.op_type]]: {each.name: each.i for each in node.attribute}
            for node in graph.node
            if node.op_type in _BLOCK_OPERATORS
        }
        # Both operators take them as the fourth input, if at all.
        self._zero_points = {
            node.input[_BLOCK_OPERATORS[node.op_type]]: (*node.input[3:4], "")[0]
            for node in graph.node
            if node.op_type in _BLOCK_OPERATORS
        }

    def weights(self) -> dict[str, Weight]:
        """Every weight of the model by canonical name, read lazily."""
        shapes = self.spec.weight_shapes()
        return {name: self._part(name, shapes) for name in shapes}

    def kv_scales(self) -> tuple[LayerScales, ...]:
        """Scales of the int8 cache, by layer."""
        shape = (1, self.spec.num_kv_heads, 1, self.spec.head_dim)
        read = {
            (layer, part): self._tensor(f"model.layers.{layer}.self_attn.{part}_cache.scales", shape)
            for layer in range(self.spec.num_layers)
            for part in ("key", "value")
        }
        return tuple(
            LayerScales(
                key=read[layer, "key"].rows(0, 1).astype(np.float32),
                value=read[layer, "value"].rows(0, 1).astype(np.float32),
            )
            for layer in range(self.spec.num_layers)
        )

    def _part(self, name: str, shapes: Mapping[str, tuple[int, ...]]) -> Weight:
        # model.layers.{i}.self_attn.q_proj.weight → model.layers.{i}., self_attn.q_proj and weight
        module, suffix = name.rsplit(".", 1)
        layer, part = "", module
        if module.startswith("model.layers."):
            prefix = module.split(".", 3)
            layer, part = ".".join(prefix[:3]) + ".", prefix[3]
        stored, parts = _PACKED.get(part, (part, (part,)))
        rows = {each: shapes[f"{layer}{each}.{suffix}"][0] for each in parts}
        whole = self._whole(layer + stored, suffix, (sum(rows.values()), *shapes[name][1:]))
        if len(parts) == 1:
            return whole
        return Rows(whole, sum(rows[each] for each in parts[: parts.index(part)]), shapes[name])

    def _whole(self, name: str, suffix: str, shape: tuple[int, ...]) -> Weight:
        if len(shape) == 1:
            return Floating(self._tensor(f"{name}.{suffix}", shape))
        return self._matrix(name, *shape)

    def _matrix(self, name: str, rows: int, columns: int) -> Weight:
        if f"{name}.weight" in self._initializers:
            return Floating(self._tensor(f"{name}.weight", (rows, columns)))
        pieces, start = [], 0
        while start < rows:
            piece = piece_name(name, start)
            stored = self._initializers.get(f"{piece}.weight_quantized")
            count = rows - start if stored is None else min(rows - start, max(1, *stored.dims[:1]))
            pieces.append(self._piece(piece, count, columns))
            start += count
        return pieces[0] if len(pieces) == 1 else Stacked(pieces)

    def _piece(self, name: str, rows: int, columns: int) -> Weight:
        attributes = self._blocks.get(f"{name}.weight_quantized", {})
        bits, block_size = attributes.get("bits", 4), attributes.get("block_size", 0)
        if bits not in (2, 4, 8) or block_size < 16 or block_size % 16:
            raise BundleError(
                f"{self._path}: expected {name} to be read with 2, 4 or 8 bits and a block size of 16 or more, "
                f"got {bits} bits, block size {block_size}. Export the model again."
            )
        blocks = -(-columns // block_size)
        zero_points = self._zero_points[f"{name}.weight_quantized"]
        return Blocked(
            quantized=self._tensor(f"{name}.weight_quantized", (rows, blocks * block_size * bits // 8)),
            scales=self._tensor(f"{name}.weight_scales", (rows, blocks)),
            zero_points=self._tensor(zero_points, (rows, -(-blocks * bits // 8))) if zero_points else None,
            bits=bits,
            block_size=block_size,
            columns=columns,
        )

    def _tensor(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """The initializer `name`, seen in `shape` (the same bytes may be declared with the last axis split)."""
        if (found := self._initializers.get(name)) is None:
            raise BundleError(f"{self._path}: expected an initializer {name}, found none. Export the model again.")
        dtype, place = _DTYPES.get(found.data_type), {entry.key: entry.value for entry in found.external_data}
        elements = int(np.prod(shape, dtype=np.int64))
        declared = int(np.prod(found.dims, dtype=np.int64))
        if dtype is None or declared != elements or list(found.dims[:1]) != [shape[0]]:
            raise BundleError(
                f"{self._path}: expected {name} with {elements} elements in {shape[0]} rows of float32, float16 or "
                f"uint8, got shape {list(found.dims)}, element type {found.data_type}. Export the model again."
            )
        file = self._weight_files.get(place.get("location", ""))
        if file is None:
            raise BundleError(
                f"{self._path}: expected {name} in one of {sorted(self._weight_files)}, "
                f"got {place.get('location', 'no external file')!r}. Export the model again."
            )
        offset, length = (
            int(text) if text.isdecimal() else -1 for text in (place.get("offset", "0"), place.get("length", ""))
        )
        size_bytes = file.stat().st_size
        if length != elements * dtype.itemsize or not 0 <= offset <= size_bytes - length:
            raise BundleError(
                f"{self._path}: expected {elements * dtype.itemsize} bytes of {name} within the {size_bytes} bytes of "
                f"{file.name}, got {length} at {offset}. Export the model again."
            )
        return Tensor(name, file, dtype, shape, offset)


def read_model(path: Path) -> onnx.ModelProto:
    """A bundle's graph file, without the weights beside it.

    Raises:
        BundleError: it is too large for a graph without weights, or not an ONNX file.
    """
    size_bytes = path.stat().st_size
    if size_bytes > _MODEL_LIMIT_BYTES:
        raise BundleError(f"{path}: expected a graph of at most {_MODEL_LIMIT_BYTES} bytes, got {size_bytes}")
    try:
        return onnx.load(path, load_external_data=False)
    except DecodeError as error:
        raise BundleError(f"{path}: not an ONNX model: {error}. Export the model again.") from error
