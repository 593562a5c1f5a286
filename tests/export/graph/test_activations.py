"""Activations to 16 bits: what two passes buy, and that they change nothing else."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from bise_export.decoded import Decoded
from bise_export.errors import UnsupportedError
from bise_export.graph import activations
from bise_export.graph.builder import Builder
from bise_export.quant.recipes import recipe
from bise_export.reference import Reference
from bise_export.writer import Layout
from bise_proto.bundle import read_manifest
from golden import tiny

TOKENS = [5, 9, 31, 7, 200, 44, 18, 260, 3, 77]


def parts(columns, block_size, x):
    """The rounded rows and the rest, as the graph computes them."""
    builder = Builder(Layout(), "weights")
    value = ir.val("x", ir.DataType.FLOAT, [1, "rows", columns])
    both = activations.split(builder, value, "matrix", columns, block_size)
    both.type = ir.TensorType(ir.DataType.FLOAT)
    model = builder.model([value], [both], "split", "test")
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": x})
    return np.split(found, 2, axis=0)


@pytest.mark.parametrize(("columns", "block_size"), [(64, 32), (96, 64), (72, 32), (16, 128)])
def test_the_halves_add_up_and_the_first_is_the_kernels_own_rounding(columns, block_size):
    rng = np.random.default_rng(3)
    x = (rng.standard_normal((1, 5, columns)) * 10.0 ** rng.integers(-6, 6, (1, 5, 1))).astype(np.float32)
    x[0, 0, :16] = 0

    rounded, rest = parts(columns, block_size, x)

    np.testing.assert_allclose(rounded + rest, x, rtol=2e-7, atol=0)
    filled = np.pad(x, ((0, 0), (0, 0), (0, -columns % block_size))).reshape(5, -1, block_size)
    step = np.abs(filled).max(-1, keepdims=True) / 127
    expected = np.rint(filled / np.where(step == 0, 1, step)) * step
    np.testing.assert_allclose(rounded[0], expected.reshape(5, -1)[:, :columns], rtol=1e-5, atol=1e-12)


def test_no_rows_stay_no_rows():
    rounded, rest = parts(64, 32, np.zeros((1, 0, 64), np.float32))
    assert rounded.shape == rest.shape == (1, 0, 64)


@pytest.mark.parametrize("activations", ["int8", "int16"])
def test_a_chunk_that_wants_no_logits_gets_none(exported, rows, activations):
    runner = rows(exported("llama", precision="int8", activations=activations), tiny.LLAMA, slots=1)
    assert runner.step(0, [TOKENS], [0], logits=0).shape == (1, 0, tiny.LLAMA.vocab_size)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "block_size"), [("llama", 32), ("mistral", 64), ("sliding", 128)])
def test_two_passes_come_much_nearer_to_float_activations(exported, rows, name, block_size):
    spec = tiny.SPECS[name]
    error = {}
    for choice in ("int8", "int16"):
        folder = exported(name, precision="int8", block_size=block_size, activations=choice)
        decoded = Decoded(folder, read_manifest(folder))
        (exact,) = Reference(spec, decoded.weights()).logits([TOKENS])
        found = rows(folder, spec, slots=1).step(0, [TOKENS], [0])[0]
        error[choice] = np.abs(found - exact).max()
    assert error["int16"] < error["int8"] / 30


@pytest.mark.parametrize(("precision", "target"), [("fp16", "cpu"), ("fp32", "cpu"), ("int8", "cuda")])
def test_where_products_are_of_floats_there_is_nothing_to_choose(precision, target):
    with pytest.raises(UnsupportedError, match="--activations int16: expected int4 or int8 weights on cpu"):
        recipe(precision, 32, target, "int16")


def test_the_manifest_says_which(exported):
    assert read_manifest(exported("llama", precision="int8")).quantization.activations == "int16"
    assert read_manifest(exported("llama", precision="int4")).quantization.activations == "int8"
    assert read_manifest(exported("llama", precision="fp32")).quantization.activations == "float32"
