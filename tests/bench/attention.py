"""What attention over a long cache costs a prompt's chunk on CPU, by the ways onnxruntime has for it.

`python -m tests.bench attention`. One layer of SmolLM2's attention (9 query heads, 3 of keys and values, 64 channels)
behind a cache of int8 entries, in milliseconds for its 30 layers. The ways that read the int8 cache by other operators
are timed without what they would still need to append to it. Beside them stands the arithmetic alone: the same products
at the speed of the largest float32 matrix product this machine does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from .rounds import machine

_QUERY_HEADS, _HEADS, _CHANNELS, _LAYERS = 9, 3, 64, 30
_CAPACITY = 8192
_THREADS = 2
_CASES = [(context, tokens) for context in (0, 500, 2000, 4000) for tokens in (1, 8, 16, 32, 128)]
_ROUNDS = 7
_MICROSOFT = "com.microsoft"
_SCALE = 0.02

Feeds = dict[str, np.ndarray[Any, Any]]


def run() -> dict[str, Any]:
    """The table, as plain values."""
    ways = {"int8 cache": _fused(np.int8), "float32 cache": _fused(np.float32), **_by_hand()}
    gflops = _gflops()
    table: dict[str, dict[str, float]] = {}
    for context, tokens in _CASES:
        row = {name: _measure(*way(context, tokens)) * _LAYERS for name, way in ways.items()}
        flops = 4 * _LAYERS * _QUERY_HEADS * _CHANNELS * tokens * (context + tokens / 2)
        table[f"{tokens} behind {context}"] = {**row, "arithmetic alone": flops / gflops / 1e6}
    return {
        "what": "ms for the attention of all layers, SmolLM2's shape, some new tokens behind a cache",
        "machine": machine(),
        "float32 products, GFLOP/s": gflops,
        "table": table,
        "ratios": {},
        "bars": {},
    }


def _fused(dtype: type[np.generic]) -> Callable[[int, int], tuple[Any, Feeds]]:
    """GroupQueryAttention over its own cache."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    cache = [1, _HEADS, "capacity", _CHANNELS]
    attributes: dict[str, Any] = {"num_heads": _QUERY_HEADS, "kv_num_heads": _HEADS}
    inputs = ["qkv", "", "", "past_key", "past_value", "seqlens_k", "total"]
    scales = []
    if dtype is np.int8:
        attributes |= {"k_quant_type": "PER_CHANNEL", "v_quant_type": "PER_CHANNEL", "kv_cache_bit_width": 8}
        inputs += ["", "", "", "", "", "scales", "scales"]
        scales = [numpy_helper.from_array(np.full((1, _HEADS, 1, _CHANNELS), _SCALE, np.float32), "scales")]
    node = helper.make_node("GroupQueryAttention", inputs, ["output", "key", "value"], domain=_MICROSOFT, **attributes)
    values = {
        "qkv": (TensorProto.FLOAT, [1, "tokens", (_QUERY_HEADS + 2 * _HEADS) * _CHANNELS]),
        "past_key": (kind, cache),
        "past_value": (kind, cache),
        "seqlens_k": (TensorProto.INT32, [1]),
        "total": (TensorProto.INT32, []),
    }
    outputs = {"output": (TensorProto.FLOAT, None), "key": (kind, cache), "value": (kind, cache)}
    session = _session([node], values, outputs, scales)
    held = [_entries(seed).astype(dtype) for seed in (1, 2)]

    def case(context: int, tokens: int) -> tuple[Any, Feeds]:
        width = (_QUERY_HEADS + 2 * _HEADS) * _CHANNELS
        feeds = {
            "qkv": np.random.default_rng(3).standard_normal((1, tokens, width)).astype(np.float32),
            "past_key": held[0],
            "past_value": held[1],
            "seqlens_k": np.array([context + tokens - 1], np.int32),
            "total": np.array(context + tokens, np.int32),
        }
        return session, feeds

    return case


def _by_hand() -> dict[str, Callable[[int, int], tuple[Any, Feeds]]]:
    """From int8 entries by plain operators: converted to floats, or multiplied as integers (queries by tensor)."""
    floats = [
        helper.make_node("Cast", ["keys"], ["k"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["values"], ["v"], to=TensorProto.FLOAT),
        helper.make_node("FusedMatMul", ["queries", "k"], ["scores"], domain=_MICROSOFT, transB=1),
        helper.make_node("Softmax", ["scores"], ["shares"], axis=-1),
        helper.make_node("MatMul", ["shares", "v"], ["output"]),
    ]
    integers = [
        helper.make_node("DynamicQuantizeLinear", ["queries"], ["q", "q_scale", "q_zero"]),
        helper.make_node("Transpose", ["keys"], ["k"], perm=[0, 2, 1]),
        helper.make_node("MatMulIntegerToFloat", ["q", "k", "q_scale", "one", "q_zero"], ["scores"], domain=_MICROSOFT),
        helper.make_node("Softmax", ["scores"], ["shares"], axis=-1),
        helper.make_node("QuantizeLinear", ["shares", "unit", "zero"], ["p"]),
        helper.make_node("MatMulIntegerToFloat", ["p", "values", "unit", "one", "zero"], ["output"], domain=_MICROSOFT),
    ]
    constants = [
        numpy_helper.from_array(np.array(1, np.float32), "one"),
        numpy_helper.from_array(np.array(1 / 255, np.float32), "unit"),
        numpy_helper.from_array(np.array(0, np.uint8), "zero"),
    ]
    entries = (TensorProto.INT8, [_HEADS, "total", _CHANNELS])
    values = {"queries": (TensorProto.FLOAT, [_HEADS, "rows", _CHANNELS]), "keys": entries, "values": entries}
    outputs = {"output": (TensorProto.FLOAT, None)}
    held = [_entries(seed)[0] for seed in (1, 2)]

    def way(session: Any) -> Callable[[int, int], tuple[Any, Feeds]]:
        def case(context: int, tokens: int) -> tuple[Any, Feeds]:
            rows = tokens * _QUERY_HEADS // _HEADS
            queries = np.random.default_rng(3).standard_normal((_HEADS, rows, _CHANNELS)).astype(np.float32)
            keys, its_values = (np.ascontiguousarray(each[:, : context + tokens]) for each in held)
            return session, {"queries": queries * np.float32(_SCALE), "keys": keys, "values": its_values}

        return case

    return {
        "int8 cache, as floats": way(_session(floats, values, outputs, [])),
        "int8 cache, as integers": way(_session(integers, values, outputs, constants)),
    }


def _session(nodes: Sequence[Any], values: dict[str, Any], outputs: dict[str, Any], constants: Sequence[Any]) -> Any:
    described = [
        [helper.make_tensor_value_info(name, *each) for name, each in some.items()] for some in (values, outputs)
    ]
    graph = helper.make_graph(list(nodes), "attention", *described, list(constants))
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(_MICROSOFT, 1)]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _THREADS
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _entries(seed: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(-100, 100, (1, _HEADS, _CAPACITY, _CHANNELS)).astype(np.int8)


def _measure(session: Any, feeds: Feeds) -> float:
    """The median of some runs, in ms, with the cache written in place as in the daemon."""
    binding = session.io_binding()
    for name, array in feeds.items():
        binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
    for output in session.get_outputs():
        past = feeds.get(f"past_{output.name}")
        if past is None:
            binding.bind_output(output.name)
        else:
            binding.bind_output(output.name, "cpu", 0, past.dtype.type, past.shape, past.ctypes.data)
    session.run_with_iobinding(binding)
    return median(_timed(lambda: session.run_with_iobinding(binding)) for _ in range(_ROUNDS))


def _gflops() -> float:
    """Of the largest float32 product that is fast."""
    left, right = np.random.default_rng(4).standard_normal((2, 1024, 1024)).astype(np.float32)
    _timed(lambda: left @ right)
    return 2 * 1024**3 / min(_timed(lambda: left @ right) for _ in range(_ROUNDS)) / 1e6


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1e3
