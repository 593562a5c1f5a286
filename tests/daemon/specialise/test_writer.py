"""What is specialised of a graph, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper

from bise_daemon.specialise import graph
from bise_daemon.specialise.graph import GraphError
from bise_daemon.specialise.packer import run
from bise_daemon.specialise.writer import DATA_FILE, MODEL_FILE, write

SIZE, BLOCK = 64, 32
DATA = "weights.bin"


def product(name: str, weight: str, given: str) -> NodeProto:
    sizes = {"K": SIZE, "N": SIZE, "bits": 4, "block_size": BLOCK, "accuracy_level": 4}
    return helper.make_node(
        "MatMulNBits", [given, weight, f"{name}.scales"], [name], name=name, domain="com.microsoft", **sizes
    )


def save(folder: Path, nodes: list[NodeProto], values: dict[str, NDArray[np.generic]]) -> Path:
    """A graph from "given" to the last node's output, with its constants in a file beside it."""
    data, tensors = bytearray(), []
    for name, value in values.items():
        kind = helper.np_dtype_to_tensor_dtype(value.dtype)
        tensor = TensorProto(name=name, data_type=kind, dims=value.shape, data_location=TensorProto.EXTERNAL)
        for key, text in {"location": DATA, "offset": str(len(data)), "length": str(value.nbytes)}.items():
            tensor.external_data.add(key=key, value=text)
        tensors.append(tensor)
        data += value.tobytes()
    given, made = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", SIZE])
        for name in ("given", nodes[-1].output[0])
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(helper.make_graph(nodes, "two", [given], [made], tensors), opset_imports=opsets)
    model.ir_version = 10
    folder.mkdir(exist_ok=True)
    (folder / DATA).write_bytes(data)
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


def told(done: int, products: int) -> None:
    assert 0 <= done < products


def weight(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE // BLOCK, BLOCK // 2), np.uint8)


def scales(seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random((SIZE, SIZE // BLOCK), np.float32)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    nodes = [product("one", "one.weight", "given"), product("two", "two.weight", "one")]
    values = {"one.weight": weight(1), "one.scales": scales(1), "two.weight": weight(2), "two.scales": scales(2)}
    return save(tmp_path / "true", nodes, values)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


def read(folder: Path) -> ModelProto:
    return onnx.load(folder / "model.onnx", load_external_data=False)


def test_the_graph_is_equal_without_the_raw_weights(model: Path, target: Path) -> None:
    write(model, target, lambda: True, told)
    assert {path.name for path in target.iterdir()} == {MODEL_FILE, DATA_FILE}
    values = np.random.default_rng(3).standard_normal((3, SIZE), np.float32)
    (one,), (other,) = run(read(model.parent), model.parent, [values]), run(read(target), target, [values])
    assert one.tobytes() == other.tobytes()
    data = (target / DATA_FILE).read_bytes()
    assert not any(data[: weight(1).nbytes])
    assert weight(1).tobytes() not in data
    assert weight(2).tobytes() not in data


def test_products_of_equal_scales_cannot_be_told_apart(tmp_path: Path, target: Path) -> None:
    nodes = [product("one", "one.weight", "given"), product("two", "two.weight", "one")]
    values = {"one.weight": weight(1), "one.scales": scales(1), "two.weight": weight(2), "two.scales": scales(1)}
    with pytest.raises(GraphError, match="expected scales of its own"):
        write(save(tmp_path / "alike", nodes, values), target, lambda: True, told)


def test_a_matrix_of_two_products_stays_as_it_is(tmp_path: Path) -> None:
    nodes = [product("one", "shared", "given"), product("two", "shared", "one")]
    path = save(tmp_path / "shared", nodes, {"shared": weight(1), "one.scales": scales(1), "two.scales": scales(2)})
    assert graph.products(graph.read(path)) == []


def test_nobody_waits_any_more(model: Path, target: Path) -> None:
    with pytest.raises(GraphError, match="nobody waits"):
        write(model, target, lambda: False, told)


def test_a_tensor_whose_length_is_not_its_shapes_is_refused(model: Path, target: Path) -> None:
    found = read(model.parent)
    next(entry for entry in found.graph.initializer[0].external_data if entry.key == "length").value = "7"
    onnx.save(found, model)
    with pytest.raises(GraphError, match="of its shape and type, got 7"):
        write(model, target, lambda: True, told)
