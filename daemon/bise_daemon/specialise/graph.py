"""What is specialised of a graph: its quantized products, each alone, and the graph that is left without their weights.

onnxruntime looks a packed matrix up by the hash of what it packs itself at load. So a specialised graph gives each
product a *hollow* matrix, zeros from a hole in the file that all share, with its true scales and zero points: packing
those costs no reading, and the scales make every hash another one. Under that hash lies what the true matrix packs to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

_PRODUCT = "MatMulNBits"
_WEIGHT, _REORDER = 1, 4  # inputs of it
_MOST_GRAPH_BYTES = 256 << 20
_PACKED = "prepacked"


class GraphError(ValueError):
    """A graph that can't be specialised; says why."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor's bytes lie."""

    file: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Product:
    """A quantized product whose weights are constants.

    Attributes:
        weight: the name of its matrix.
        constants: the names of its other inputs that are constants, as the product calls them.
        casts: what makes these of what is stored.
    """

    node: NodeProto
    weight: str
    constants: tuple[str, ...]
    casts: tuple[NodeProto, ...]


def read(path: Path) -> ModelProto:
    """A graph without its weights.

    Raises:
        GraphError: it is too large.
    """
    if (size_bytes := path.stat().st_size) > _MOST_GRAPH_BYTES:
        raise GraphError(f"{path}: expected a graph of at most {_MOST_GRAPH_BYTES} bytes, got {size_bytes}")
    return onnx.load(path, load_external_data=False)


def products(model: ModelProto) -> list[Product]:
    """Those of the graph whose matrix is stored outside of it and used by nobody else."""
    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    uses = Counter(_uses(graph))
    found = []
    for node in graph.node:
        if node.op_type != _PRODUCT or not is_external(stored.get(node.input[_WEIGHT])):
            continue
        if len(node.input) > _REORDER and node.input[_REORDER]:
            continue  # columns in another order are not packed
        others = tuple(name for name in node.input[_WEIGHT + 1 :] if name)
        casts = tuple(makers[name] for name in others if name in makers)
        constant = all(name in stored or name in makers for name in others) and all(
            cast.op_type == "Cast" and cast.input[0] in stored for cast in casts
        )
        if constant and uses[node.input[_WEIGHT]] == 1:
            found.append(Product(node, node.input[_WEIGHT], others, casts))
    return found


def alone(model: ModelProto, product: Product) -> ModelProto:
    """A graph of this product and nothing else."""
    names = {product.weight, *product.constants, *(cast.input[0] for cast in product.casts)}
    tensors = [tensor for tensor in model.graph.initializer if tensor.name in names]
    return _of_one(model, product.node, [*product.casts, product.node], tensors)


def hollow_alone(
    model: ModelProto, product: Product, hollow: TensorProto, constants: Mapping[str, TensorProto]
) -> ModelProto:
    """The same with a hollow matrix, and its constants as they were copied."""
    return _of_one(model, product.node, [product.node], [hollow, *(constants[name] for name in product.constants)])


def needed(model: ModelProto, copied: Mapping[str, TensorProto]) -> set[str]:
    """The names that are used by all but what makes tensors that were copied as they come out."""
    rest = GraphProto(output=model.graph.output)
    rest.node.extend(_without(model, copied))
    return set(_uses(rest))


def hollow_graph(
    model: ModelProto, specialised: Mapping[str, TensorProto], copied: Mapping[str, TensorProto]
) -> ModelProto:
    """The whole graph with other tensors.

    Args:
        specialised: hollow matrices, by name.
        copied: all others that it needs, by name; what makes one of these is left out.
    """
    found = ModelProto()
    found.CopyFrom(model)
    graph = found.graph
    nodes = _without(model, copied)
    del graph.node[:]
    graph.node.extend(nodes)
    outside = {**copied, **specialised}
    inside = {tensor.name: tensor for tensor in graph.initializer if not is_external(tensor)}
    used = needed(model, copied)
    tensors = [tensor for name, tensor in (inside | outside).items() if name in used]
    del graph.initializer[:]
    graph.initializer.extend(tensors)
    return found


def is_external(tensor: TensorProto | None) -> bool:
    """Whether a tensor's bytes lie in another file."""
    return tensor is not None and tensor.data_location == TensorProto.EXTERNAL


def place(tensor: TensorProto) -> Place:
    """Where they lie."""
    fields = {entry.key: entry.value for entry in tensor.external_data}
    size_bytes = prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    length = int(fields.get("length", size_bytes))
    if length != size_bytes:
        raise GraphError(f"{tensor.name}: expected {size_bytes} bytes of its shape and type, got {length}")
    return Place(fields["location"], int(fields.get("offset", 0)), length)


def packed(tensor: TensorProto) -> tuple[str, Place] | None:
    """The hash and the place of what onnxruntime packed a tensor to, if it did."""
    fields = {entry.key: entry.value for entry in tensor.external_data}
    entries = [value for key, value in fields.items() if key.startswith(_PACKED)]
    if len(entries) != 1 or entries[0].count("|") != 1:
        return None  # nothing, or more than one buffer: none of MatMulNBits
    name, _, blob = entries[0].partition("|")
    offset, length, _ = blob.split(";")
    return name, Place(fields["location"], int(offset), int(length))


def at(tensor: TensorProto, where: Place, blob: tuple[str, Place] | None = None) -> TensorProto:
    """The same tensor, in another place, with what it packs to."""
    found = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    found.data_location = TensorProto.EXTERNAL
    fields = {"location": where.file, "offset": str(where.offset), "length": str(where.length)}
    if blob is not None:
        fields[f"{_PACKED}_0"] = f"{blob[0]}|{blob[1].offset};{blob[1].length};0"
    for key, value in fields.items():
        found.external_data.add(key=key, value=value)
    return found


def tensors(model: ModelProto) -> Iterator[TensorProto]:
    """The constants of a graph."""
    yield from model.graph.initializer


def _without(model: ModelProto, copied: Mapping[str, TensorProto]) -> list[NodeProto]:
    """The nodes but those that make tensors that were copied."""
    return [node for node in model.graph.node if not any(name in copied for name in node.output)]


def _uses(graph: GraphProto) -> Iterator[str]:
    """The names that nodes and outputs use, in graphs inside of nodes too."""
    for node in graph.node:
        yield from node.input
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _uses(inner)
    for value in graph.output:
        yield value.name


def _of_one(model: ModelProto, node: NodeProto, nodes: list[NodeProto], tensors: list[TensorProto]) -> ModelProto:
    sizes = {attribute.name: attribute.i for attribute in node.attribute}
    # What flows through a product has its scales' type, float32 on cpu; a graph of others is refused by its types.
    kind = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info(node.input[0], kind, ["rows", sizes["K"]])],
        [helper.make_tensor_value_info(node.output[0], kind, ["rows", sizes["N"]])],
        tensors,
    )
    found = helper.make_model(graph, opset_imports=model.opset_import)
    found.ir_version = model.ir_version
    return found
