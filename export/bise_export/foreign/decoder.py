"""A decoder of another exporter: its file is read, and what it is told by inputs and outputs is checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from bise_export.errors import ExportError, SourceError, UnsupportedError
from bise_export.graph import io
from bise_export.graph.builder import MICROSOFT

# The adapter's operators are as they are from here on.
_OLDEST_OPSET = 15
_LIMIT_BYTES = (2 << 30) - 1  # protobuf's own
_CACHE_TYPES = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.INT8)
_LOGIT_TYPES = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
_INTEGERS = (ir.DataType.INT64, ir.DataType.INT32)
_MOST_HEADS = 1 << 10
_PARTS = ("key", "value")
_PAST_INPUTS = {"key": 3, "value": 4}  # of GroupQueryAttention
_ATTENTION = "GroupQueryAttention"
# Where operators take the table of cosines, with a row for each position.
_TABLES = {_ATTENTION: 7, "RotaryEmbedding": 2}


class Growth(Enum):
    """How a graph's cache takes new tokens in."""

    IN_PLACE = "in place"  # GroupQueryAttention's: past and present may be one buffer, longer than what it holds
    APPENDED = "appended"  # present is past and the new entries behind it


@dataclass(frozen=True, slots=True)
class Decoder:
    """A graph that was checked.

    Attributes:
        model: with functions inlined; nothing else is changed.
        files: all that hold it, the .onnx file first.
        given: its inputs but the caches, with the types they have here.
        head_dim: None if the graph leaves it open.
        vocab_size: likewise.
        positions: rows of its rotary tables; None if it computes angles.
    """

    model: ir.Model
    files: tuple[Path, ...]
    given: Mapping[str, ir.DataType]
    num_layers: int
    num_kv_heads: int
    head_dim: int | None
    vocab_size: int | None
    cache_type: ir.DataType
    growth: Growth
    positions: int | None

    def caches(self) -> Iterator[tuple[str, str]]:
        """The names of each past and its present, in the order of bise's graphs."""
        for layer in range(self.num_layers):
            for part in _PARTS:
                yield io.past(layer, part), io.present(layer, part)


def read_decoder(file: Path) -> Decoder:
    """The decoder in an .onnx file, with the external data beside it.

    Raises:
        SourceError: it is no ONNX file, or names data that is not in its own folder.
        UnsupportedError: it has inputs, outputs, operators or caches that bise can't serve; the message names them.
    """
    if not file.is_file():
        raise SourceError(f"{file}: expected an .onnx file, found none. Give the decoder's own file.")
    if (size_bytes := file.stat().st_size) > _LIMIT_BYTES:
        raise SourceError(f"{file}: expected at most {_LIMIT_BYTES} bytes, got {size_bytes}. Use external data.")
    try:
        model = ir.load(file)
        if model.functions:
            model = InlinePass()(model).model
    except Exception as error:  # the library raises nothing narrower
        raise SourceError(f"{file}: expected an ONNX model, got {error!s:.200}. Get the file again.") from error
    try:
        data = _external_files(model, file.parent)
        _check_operators(model)
        return _described(model, (file, *data))
    except ExportError as error:
        raise type(error)(f"{file}: {error}") from error


def _external_files(model: ir.Model, folder: Path) -> list[Path]:
    """The files that hold external data, each proved to be in `folder` and long enough."""
    found: dict[Path, None] = {}
    for tensor in _tensors(model):
        if not isinstance(tensor, ir.ExternalTensor):
            continue
        place = Path(tensor.location)
        path = folder / place
        if place.is_absolute() or not path.resolve().is_relative_to(folder.resolve()):
            raise SourceError(
                f"expected external data in its own folder, got {str(place)!r:.80}. Do not trust this file, or, if it "
                "is a link of yours, copy what it leads to."
            )
        end = (tensor.offset or 0) + tensor.nbytes
        if not path.is_file() or (tensor.offset or 0) < 0 or path.stat().st_size < end:
            raise SourceError(
                f"expected {end} bytes or more in {str(place)!r:.80}, which holds {tensor.name!r:.80}, got "
                f"{path.stat().st_size if path.is_file() else 'no file'}. Get both files again."
            )
        found[path] = None
    return list(found)


def _tensors(model: ir.Model) -> Iterator[ir.TensorProtocol]:
    for value in model.graph.initializers.values():
        if value.const_value is not None:
            yield value.const_value
    for node in model.graph:
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.TENSOR:
                yield attribute.as_tensor()
            elif attribute.type == ir.AttributeType.TENSORS:
                yield from attribute.as_tensors()


def _check_operators(model: ir.Model) -> None:
    if (opset := model.opset_imports.get("", 0)) < _OLDEST_OPSET:
        raise _refused(f"opset {_OLDEST_OPSET} or newer", str(opset), "it again with a newer one")
    for node in model.graph:
        if node.domain not in ("", MICROSOFT):
            raise _refused(f"operators of ONNX and {MICROSOFT}", f"{node.domain}::{node.op_type}", "it again without")
        if any(each.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for each in node.attributes.values()):
            # What is cached could then depend on how a prompt was cut: LongRoPE's factors, chosen by length.
            road = "it again without branches: no merged decoder, rotary factors of one length"
            raise _refused("one road through the graph", f"{node.op_type} ({node.name!r:.80})", road)


def _described(model: ir.Model, files: tuple[Path, ...]) -> Decoder:
    inputs = {str(value.name): value for value in model.graph.inputs}
    outputs = {str(value.name): value for value in model.graph.outputs}
    layers = next(layer for layer in range(len(inputs) + 1) if io.past(layer, "key") not in inputs)
    _check_names(inputs.keys(), outputs.keys(), layers)
    cache_type, num_kv_heads, head_dim = _cache(inputs, layers)
    return Decoder(
        model=model,
        files=files,
        given=_given(inputs),
        num_layers=layers,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        vocab_size=_vocab_size(outputs[io.LOGITS]),
        cache_type=cache_type,
        growth=_growth(inputs, outputs, layers),
        positions=_positions(model),
    )


def _check_names(inputs: Set[str], outputs: Set[str], layers: int) -> None:
    pasts = {io.past(layer, part) for layer in range(layers) for part in _PARTS}
    presents = {io.present(layer, part) for layer in range(layers) for part in _PARTS}
    needed = {io.INPUT_IDS, io.ATTENTION_MASK, io.past(0, "key"), *pasts}
    if missing := needed - inputs:
        raise _refused("the inputs of text generation with past", f"no {_listed(missing)}")
    if unknown := inputs - needed - {io.POSITION_IDS}:
        raise _refused("the inputs of a text decoder and no others", f"also {_listed(unknown)}")
    if missing := {io.LOGITS, *presents} - outputs:
        raise _refused("the outputs logits and present.*", f"no {_listed(missing)}")


def _given(inputs: Mapping[str, ir.Value]) -> dict[str, ir.DataType]:
    found = {}
    for name in (io.INPUT_IDS, io.ATTENTION_MASK, io.POSITION_IDS):
        if (value := inputs.get(name)) is not None:
            if value.dtype not in _INTEGERS:
                raise _refused(f"{name} of int64 or int32", str(value.dtype))
            found[name] = value.dtype
    return found


def _cache(inputs: Mapping[str, ir.Value], layers: int) -> tuple[ir.DataType, int, int | None]:
    """Element type, heads and channels of every layer's cache."""
    found = set()
    for past in (inputs[io.past(layer, part)] for layer in range(layers) for part in _PARTS):
        if past.shape is None or len(past.shape) != 4 or past.dtype is None:
            raise _refused(f"{past.name} [batch, heads, tokens, channels]", str(past.shape))
        heads, channels = past.shape[1], past.shape[3]
        if not isinstance(heads, int) or not 1 <= heads <= _MOST_HEADS:
            raise _refused(f"{past.name} with 1 to {_MOST_HEADS} heads", str(past.shape))
        found.add((past.dtype, heads, channels if isinstance(channels, int) else None))
    if len(found) != 1:
        raise _refused("past_key_values of one type and size in all layers", "several")
    cache = found.pop()
    if cache[0] not in _CACHE_TYPES:
        raise _refused("past_key_values of float32, float16 or int8", str(cache[0]))
    return cache


def _vocab_size(logits: ir.Value) -> int | None:
    if logits.dtype not in _LOGIT_TYPES or logits.shape is None or len(logits.shape) != 3:
        raise _refused("logits of floats [batch, sequence, vocabulary]", f"{logits.dtype} {logits.shape}")
    if logits.shape[1] == 1:
        raise _refused("logits of every token", "a pruned head, with the last token's only")
    size = logits.shape[2]
    return size if isinstance(size, int) else None


def _growth(inputs: Mapping[str, ir.Value], outputs: Mapping[str, ir.Value], layers: int) -> Growth:
    for layer in range(layers):
        for part, at in _PAST_INPUTS.items():
            node = outputs[io.present(layer, part)].producer()
            if node is None or node.op_type != _ATTENTION or node.inputs[at] is not inputs[io.past(layer, part)]:
                return Growth.APPENDED
    return Growth.IN_PLACE


def _positions(model: ir.Model) -> int | None:
    rows = []
    for node in model.graph:
        at = _TABLES.get(node.op_type)
        if node.domain == MICROSOFT and at is not None and len(node.inputs) > at:
            table = node.inputs[at]
            if table is not None and table.const_value is not None:
                rows.append(table.const_value.shape.numpy()[0])
    return min(rows, default=None)


def _listed(names: Set[str]) -> str:
    return ", ".join(f"{name:.60}" for name in sorted(names)[:4])


def _refused(expected: str, got: str, export: str = "another decoder") -> UnsupportedError:
    return UnsupportedError(f"expected {expected}, got {got}. Export {export}.")
