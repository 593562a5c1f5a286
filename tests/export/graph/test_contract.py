"""The graph's inputs, outputs and nodes are those of the contract, and onnxruntime takes it without a word."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from operator import attrgetter

import numpy as np
import onnx
import pytest

from bise_export.graph import decoder
from bise_export.graph.prompt_attention import pays
from bise_export.quant.kv import FloatCache, Int8Cache, LayerScales
from bise_export.quant.recipes import recipe
from bise_export.runner import Runner
from bise_export.writer import Layout
from golden import families, tiny

BLOCKED = list(itertools.product(("int4", "int8"), (32, 64, 128)))
KINDS = [*BLOCKED, ("fp16", 32), ("fp32", 32)]
ELEMENTS = {
    "int8": onnx.TensorProto.INT8,
    "fp16": onnx.TensorProto.FLOAT16,
    "fp32": onnx.TensorProto.FLOAT,
}
SMALL = replace(
    tiny.LLAMA,
    hidden_size=576,
    intermediate_size=1536,
    num_layers=30,
    num_heads=9,
    num_kv_heads=3,
    head_dim=64,
    vocab_size=49152,
    trained_context=8192,
)
HEADS = {"num_heads": 32, "num_kv_heads": 8, "head_dim": 128}
INT32, INT64 = onnx.TensorProto.INT32, onnx.TensorProto.INT64


def graph_of(folder):
    return onnx.load(folder / "model.onnx", load_external_data=False).graph


def signature(values):
    return {
        value.name: (
            value.type.tensor_type.elem_type,
            [each.dim_param or each.dim_value for each in value.type.tensor_type.shape.dim],
        )
        for value in values
    }


def places(graph):
    """(offset, length) of every initializer in the weight file, by name."""
    found = {
        each.name: {entry.key: entry.value for entry in each.external_data}
        for each in graph.initializer
        if each.external_data
    }
    return {name: (int(place["offset"]), int(place["length"])) for name, place in found.items()}


@pytest.mark.parametrize("name", ["llama", "mistral"])
@pytest.mark.parametrize("kv", ["int8", "fp16", "fp32"])
def test_inputs_and_outputs_are_the_contracts(exported, name, kv):
    spec = tiny.SPECS[name]
    graph = graph_of(exported(name, precision="int4", kv=kv, prompt_attention="fused"))
    cache = (ELEMENTS[kv], ["batch", spec.num_kv_heads, "capacity", spec.head_dim])

    def caches(prefix):
        return {f"{prefix}.{layer}.{part}": cache for layer in range(spec.num_layers) for part in ("key", "value")}

    assert signature(graph.input) == {
        "input_ids": (INT64, ["batch", "sequence"]),
        "seqlens_k": (INT32, ["batch"]),
        "total_sequence_length": (INT32, []),
        "logits_positions": (INT64, ["batch", "num_logits"]),
        **caches("past_key_values"),
    }
    logits = {"logits": (ELEMENTS["fp32"], ["batch", "num_logits", spec.vocab_size])}
    assert signature(graph.output) == {**logits, **caches("present")}
    assert [value.name for value in graph.input[:4]] == [
        "input_ids",
        "seqlens_k",
        "total_sequence_length",
        "logits_positions",
    ]


def test_where_prompts_attend_in_a_way_of_their_own_they_have_a_slot_of_their_own(exported):
    graph = graph_of(exported("llama", precision="int4", kv="int8", prompt_attention="float"))
    fused = graph_of(exported("llama", precision="int4", kv="int8", prompt_attention="fused"))
    spec = tiny.SPECS["llama"]
    slot = (ELEMENTS["int8"], [1, spec.num_kv_heads, "capacity", spec.head_dim])

    def caches(prefix):
        return {f"{prefix}.{layer}.{part}": slot for layer in range(spec.num_layers) for part in ("key", "value")}

    counts = {"prompt_tokens": (INT64, []), "prompt_total": (INT64, [])}
    assert signature(graph.input) == signature(fused.input) | counts | caches("prompt_key_values")
    assert signature(graph.output) == signature(fused.output) | caches("prompt_present")


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (SMALL, True),
        (replace(SMALL, hidden_size=4096, intermediate_size=14336, num_layers=32, **HEADS), False),
        (replace(SMALL, hidden_size=5120, intermediate_size=32768, num_layers=40, **HEADS), False),
        (replace(SMALL, sliding_window=256), False),
    ],
    ids=["SmolLM2", "Mistral 7B", "Mistral Small 3", "a narrow window"],
)
def test_a_way_of_its_own_is_for_models_whose_attention_is_much_of_a_prompts_work(spec, expected):
    assert pays(spec) is expected


@pytest.mark.slow
@pytest.mark.parametrize("name", tiny.SPECS)
@pytest.mark.parametrize(("precision", "block_size"), KINDS)
@pytest.mark.parametrize("kv", ["int8", "fp16", "fp32"])
def test_every_kind_of_graph_loads_without_a_warning(exported, name, precision, block_size, kv):
    folder = exported(name, precision=precision, block_size=block_size, kv=kv)

    runner = Runner(folder, (folder / "model.onnx").read_bytes(), "cpu", 8)

    assert runner.warnings == ()
    logits = runner.logits([1, 2, 3])
    assert logits.shape == (3, tiny.SPECS[name].vocab_size)
    assert np.isfinite(logits).all()


@pytest.mark.parametrize(("precision", "block_size"), [("int4", 32), ("fp16", 32), ("fp32", 32)])
def test_onnx_finds_nothing_to_complain_of_but_an_operator_it_does_not_know(exported, precision, block_size):
    path = exported("llama", precision=precision, block_size=block_size) / "model.onnx"
    with pytest.raises(onnx.checker.ValidationError, match="No Op registered for SimplifiedLayerNormalization"):
        onnx.checker.check_model(str(path), full_check=True)

    # onnxruntime keeps this one in ONNX's own domain. Named as what it is, the rest passes.
    model = onnx.load(path, load_external_data=False)
    (first_norm,) = (node for node in model.graph.node if node.op_type == "SimplifiedLayerNormalization")
    first_norm.domain = "com.microsoft"
    checked = path.with_name("checked.onnx")
    checked.write_bytes(model.SerializeToString())
    try:
        onnx.checker.check_model(str(checked), full_check=True)
    finally:
        checked.unlink()


def test_the_checker_would_find_a_weight_outside_the_file(exported, tmp_path):
    model = onnx.load(exported("llama", precision="fp32") / "model.onnx", load_external_data=False)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())  # without the weight file

    with pytest.raises(onnx.checker.ValidationError, match=r"model\.onnx\.data"):
        onnx.checker.check_model(str(tmp_path / "model.onnx"))


def operators_of_a_layer(chosen, like=tiny.LLAMA):
    def count(layers):
        spec = replace(like, num_layers=layers, full_attention_layers=())
        cache = FloatCache(np.dtype(np.float32))
        model = decoder.build(spec, chosen, cache, 16, Layout(), "w", "test")
        return Counter(node.op_type for node in model.graph)

    return count(3) - count(2)


@pytest.mark.parametrize(
    ("precision", "activations", "cast"),
    [("int4", None, 4), ("int8", "int8", 4), ("fp32", None, 0), ("fp16", None, 4)],
)
def test_a_layer_is_ten_operators_beside_casts_that_are_folded_at_load(precision, activations, cast):
    layer = operators_of_a_layer(recipe(precision, 32, "cpu", activations))
    linear = "FusedMatMul" if precision.startswith("fp") else "MatMulNBits"
    expected = {
        "SkipSimplifiedLayerNormalization": 2,
        linear: 4,
        "GroupQueryAttention": 1,
        "Split": 1,
        "QuickGelu": 1,
        "Mul": 1,
    }
    assert dict(layer) == expected | ({"Cast": cast} if cast else {})


@pytest.mark.parametrize("precision", ["int4", "int8", "fp32"])
def test_what_a_family_adds_to_a_layer(precision):
    chosen = recipe(precision, 32, "cpu", "int8" if precision == "int8" else None)
    plain = operators_of_a_layer(chosen)

    # The quantized product adds its bias itself.
    biases = {} if precision.startswith("int") else {"Add": 1}
    assert operators_of_a_layer(chosen, families.SPECS["qwen2"]) == plain + Counter(biases)
    sandwich = operators_of_a_layer(chosen, families.SPECS["gemma2"])
    assert sandwich - plain == {"SimplifiedLayerNormalization": 2, "Gelu": 1}
    assert plain - sandwich == {"QuickGelu": 1}
    for name in ("phi4_mini", "ministral", "llama3", "mistral3"):
        assert operators_of_a_layer(chosen, families.SPECS[name]) == plain


@pytest.mark.parametrize("name", ["llama", "mistral"])
@pytest.mark.parametrize("precision", ["int4", "fp16", "fp32"])
def test_the_head_sees_only_the_positions_asked_for(exported, name, precision):
    folder = exported(name, precision=precision)
    graph = graph_of(folder)
    producer = {output: node for node in graph.node for output in node.output}

    head = producer["logits"]
    gather = producer[head.input[0]]
    assert gather.op_type == "GatherND"
    assert producer[gather.input[1]].input[0] == "logits_positions"
    vocabulary = [place.name for place in graph.initializer if tiny.SPECS[name].vocab_size in place.dims]
    readers = {node.op_type for node in graph.node if set(node.input) & set(vocabulary)} - {"Cast"}
    assert readers <= {head.op_type, "Gather", "GatherBlockQuantized"}
    assert sum(head.op_type == node.op_type and bool(set(node.input) & set(vocabulary)) for node in graph.node) <= 1


@pytest.mark.parametrize("precision", ["int4", "int8", "fp16", "fp32"])
def test_tied_embeddings_are_stored_once(exported, precision):
    folder = exported("llama", precision=precision)
    found = places(graph_of(folder))

    for head in (name for name in found if "lm_head" in name):
        assert found[head] == found[head.replace("lm_head", "model.embed_tokens")]
    distinct = dict(found.values())
    last = max(distinct)
    assert (folder / "model.onnx.data").stat().st_size == last + distinct[last]
    waste = (folder / "model.onnx.data").stat().st_size - sum(distinct.values())
    assert 0 <= waste < 4096 * len(distinct)


@pytest.mark.parametrize("precision", ["int4", "fp32"])
def test_untied_embeddings_are_stored_apart(exported, precision):
    found = places(graph_of(exported("mistral", precision=precision)))

    heads = [name for name in found if "lm_head" in name]
    assert heads
    for name in heads:
        assert found[name] != found[name.replace("lm_head", "model.embed_tokens")]


@pytest.mark.parametrize("precision", ["int4", "int8"])
def test_zero_points_are_always_written(exported, precision):
    graph = graph_of(exported("mistral", precision=precision))

    for node in graph.node:
        if node.op_type in ("MatMulNBits", "GatherBlockQuantized"):
            assert len(node.input) == 4, node.name
            assert node.input[3].endswith(".weight_zero_points")


@pytest.mark.parametrize(("precision", "block_size"), KINDS)
@pytest.mark.parametrize("int8_cache", [False, True])
@pytest.mark.parametrize(
    "spec", [tiny.MISTRAL, families.SPECS["gemma2"], families.SPECS["qwen2"]], ids=attrgetter("family")
)
def test_on_cuda_everything_that_flows_is_half_precision(precision, block_size, int8_cache, spec):
    ones = np.ones((1, spec.num_kv_heads, 1, spec.head_dim), np.float32)
    cache = Int8Cache([LayerScales(ones, ones)] * spec.num_layers) if int8_cache else FloatCache(np.dtype(np.float16))
    layout = Layout()
    model = decoder.build(spec, recipe(precision, block_size, "cuda"), cache, 16, layout, "w", "test")

    kinds = {value.name: value.dtype.numpy() for value in (*model.graph.inputs, *model.graph.outputs)}
    assert kinds["logits"] == np.float16
    assert kinds["past_key_values.0.key"] == kinds["present.0.value"] == (np.int8 if int8_cache else np.float16)
    floats = {
        name: value.dtype.numpy()
        for name, value in model.graph.initializers.items()
        if value.dtype.is_floating_point() and "cache.scales" not in name
    }
    stored = np.float32 if precision == "fp32" else np.float16
    for name, dtype in floats.items():
        matrix = name.endswith(".weight") and "norm" not in name
        assert dtype == (stored if matrix else np.float16), name
