"""Decoders of other exporters in bundles: the same tokens whoever runs them, and a refusal where they would not be."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from typer.testing import CliRunner

from bise import Client
from bise.cli.app import app
from bise_export.errors import ExportError, SourceError, UnsupportedError
from bise_export.foreign.decoder import read_decoder
from bise_export.foreign.head import head_input
from bise_export.package import PackageOptions, package
from bise_export.runner import Runner
from bise_export.verify import verify
from bise_proto.bundle import BundleError, check_files, read_manifest
from bise_proto.v1 import bundle_pb2
from golden import checkpoints, oracle, tiny
from golden.make_foreign import FOLDER, MAX_TOKENS, PROMPTS, TOKENS
from running import running

EXPORTERS = ["genai", "optimum"]


def said(exporter):
    """The tokens of an engine that has nothing of bise: onnxruntime-genai now, transformers when it was recorded."""
    if exporter == "genai":
        return oracle.greedy(FOLDER / exporter, PROMPTS, MAX_TOKENS)
    return json.loads(TOKENS.read_text(encoding="utf-8"))["transformers"]


@pytest.fixture(scope="module")
def packaged(tmp_path_factory, quiet):
    """Bundles nobody may change."""
    root = tmp_path_factory.mktemp("packaged")
    for exporter in EXPORTERS:
        package(FOLDER / exporter / "model.onnx", root / exporter, PackageOptions(), quiet)
    return root


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_the_graph_says_what_its_own_engine_says(packaged, exporter):
    folder = packaged / exporter
    runner = Runner(folder, (folder / "model.onnx").read_bytes(), "cpu", 64)

    assert [runner.greedy(prompt, MAX_TOKENS) for prompt in PROMPTS] == said(exporter)


@pytest.mark.slow
@pytest.mark.parametrize("exporter", EXPORTERS)
def test_the_daemon_serves_it_alone_and_in_batches(packaged, tmp_path, exporter):
    """Streams of several lengths run in one step; prompts come in chunks, and again from what is kept."""
    expected = said(exporter)
    with (
        running(packaged / exporter, tmp_path, slots=3, prefill_chunk_tokens=8) as daemon,
        Client(daemon.address, timeout=60) as client,
    ):
        client.wait_until_serving(timeout=60)
        ask = partial(client.generate, max_tokens=MAX_TOKENS, ignore_eos=True)
        assert [list(ask(prompt).token_ids) for prompt in PROMPTS] == expected
        with ThreadPoolExecutor(len(PROMPTS)) as together:
            assert [list(answer.token_ids) for answer in together.map(ask, PROMPTS)] == expected
        assert client.chat("Hi", max_tokens=4, ignore_eos=True).usage.completion_tokens == 4


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_the_manifest_says_what_it_is(packaged, exporter):
    folder = packaged / exporter
    bundle = read_manifest(folder)

    assert {file.path for file in check_files(folder, bundle)} >= {"model.onnx", "model.onnx.data"}
    assert (bundle.name, bundle.provenance.source_kind) == (exporter, "onnx")
    assert (bundle.kv_cache.dtype, bundle.kv_cache.bytes_per_token) == ("float32", 2 * 2 * 16 * 4)
    assert (bundle.graph.context, bundle.chat_format) == (256, bundle_pb2.JINJA)
    assert bundle.accuracy.reference == "the graph as it came, in onnxruntime"
    assert bundle.accuracy.mean_kl < 1e-9
    assert bundle.accuracy.top1_agreement == 1
    assert "made by another exporter" in bundle.provenance.notes[0]


def test_packaging_twice_gives_the_same_files(packaged, tmp_path, quiet):
    for exporter in EXPORTERS:
        package(FOLDER / exporter / "model.onnx", tmp_path / exporter, PackageOptions(), quiet)
        for path in (packaged / exporter).rglob("*"):
            if path.is_file():
                assert path.read_bytes() == (tmp_path / exporter / path.relative_to(packaged / exporter)).read_bytes()


def test_verify_proves_its_files_and_says_who_made_it(packaged, tmp_path):
    report = verify(packaged / "genai")
    assert (report.problems, report.parity) == ([], None)
    page = CliRunner().invoke(app, ["verify", str(packaged / "genai")])
    assert (page.exit_code, "another exporter's, proved when it was packaged" in page.output) == (0, True)
    assert json.loads(CliRunner().invoke(app, ["verify", "--json", str(packaged / "genai")]).stdout)["parity"] is None

    broken = shutil.copytree(packaged / "genai", tmp_path / "broken")
    (broken / "model.onnx.data").write_bytes(b"x")
    assert CliRunner().invoke(app, ["verify", str(broken)]).exit_code == 1


def test_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, alone = FOLDER / "optimum" / "model.onnx", tmp_path / "alone"
    alone.mkdir()
    for name in ("model.onnx", "config.json"):
        shutil.copy(FOLDER / "optimum" / name, alone)
    assert CliRunner().invoke(app, ["package", str(model)]).exit_code == 0
    assert (Path("optimum.bundle") / "bundle.json").is_file()
    again = CliRunner().invoke(app, ["package", str(model)])
    assert (again.exit_code, "--overwrite" in again.stderr) == (1, True)
    lost = CliRunner().invoke(app, ["package", str(alone / "model.onnx")])
    assert (lost.exit_code, "missing files" in lost.stderr) == (1, True)
    options = ["-o", "told", "--tokenizer", str(model.parent), "--context", "100", "--name", "mine", "--version", "7"]
    assert CliRunner().invoke(app, ["package", str(alone / "model.onnx"), *options]).exit_code == 0
    bundle = read_manifest(Path("told"))
    assert (bundle.graph.context, bundle.name, bundle.version) == (100, "mine", "7")
    page = CliRunner().invoke(app, ["inspect", "told"]).output
    assert "100 tokens, of 256 trained for" in page
    assert "as another exporter stored them" in page


# Graphs of other forms, made from the recorded ones.


def rewritten(exporter, folder, change):
    """A copy of a recorded decoder in `folder`, once `change` was at its graph."""
    shutil.copytree(FOLDER / exporter, folder)
    model = ir.load(folder / "model.onnx")
    change(model.graph)
    model.graph.sort()
    ir.save(model, folder / "model.onnx")
    return folder / "model.onnx"


def in_halves(graph):
    """Everything a caller sees as the smaller types that some exporters give it."""
    ids, logits = graph.inputs[0], graph.outputs[0]
    small = ir.val("input_ids", ir.DataType.INT32, ids.shape)
    ids.name, logits.name = "wide_ids", "wide_logits"
    graph.inputs[0] = small
    graph.append(ir.node("Cast", [small], {"to": int(ir.DataType.INT64)}, outputs=[ids]))
    half = ir.val("logits", ir.DataType.FLOAT16, logits.shape)
    graph.append(ir.node("Cast", [logits], {"to": int(ir.DataType.FLOAT16)}, outputs=[half]))
    graph.outputs[0] = half


def behind_the_head(graph):
    """A head that is not the last product: logits are scaled by a number that the graph computes from its tokens."""
    logits = graph.outputs[0]
    logits.name = "unscaled"
    scaled = ir.val("logits", ir.DataType.FLOAT, logits.shape)
    width = ir.val("width")
    graph.append(ir.node("Cast", [graph.inputs[0]], {"to": int(ir.DataType.FLOAT)}, outputs=[width]))
    axis = ir.val("axis", const_value=ir.tensor(np.array([-1]), name="axis"))
    graph.register_initializer(axis)
    column = ir.val("column")
    graph.append(ir.node("Unsqueeze", [width, axis], outputs=[column]))
    graph.append(ir.node("Add", [logits, column], outputs=[scaled]))
    graph.outputs[0] = scaled


def without_positions(graph):
    """Positions counted from the width of the cache: right for a row alone, wrong for a shorter one beside others."""
    positions, cache = (
        next(value for value in graph.inputs if value.name == name)
        for name in ("position_ids", "past_key_values.0.key")
    )
    graph.inputs.remove(positions)
    positions.name = "counted"

    def constant(name, numbers):
        value = ir.val(name, const_value=ir.tensor(np.array(numbers, np.int64), name=name))
        graph.register_initializer(value)
        return value

    def op(op_type, inputs, attributes=None):
        node = ir.node(op_type, inputs, attributes)
        node.outputs[0].name = f"counting_{len(graph)}"
        graph.append(node)
        return node.outputs[0]

    zero, one = constant("counting.zero", [0]), constant("counting.one", 1)
    start = op("Squeeze", [op("Shape", [cache], {"start": 2, "end": 3}), zero])
    width = op("Squeeze", [op("Shape", [graph.inputs[0]], {"start": 1, "end": 2}), zero])
    numbers = op("Range", [start, op("Add", [start, width]), one])
    graph.append(ir.node("Unsqueeze", [numbers, zero], outputs=[positions]))


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_other_types_are_converted(tmp_path, quiet, exporter):
    file = rewritten(exporter, tmp_path / "halves", in_halves)
    bundle = package(file, tmp_path / "bundle", PackageOptions(), quiet)

    assert bundle.graph.logits_dtype == "float32"
    assert bundle.accuracy.top1_agreement == 1


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_a_head_is_found_and_computes_only_what_is_asked_for(exporter):
    found = head_input(read_decoder(FOLDER / exporter / "model.onnx").model.graph.outputs[0])

    assert found is not None
    assert found[0].op_type in ("MatMul", "MatMulNBits")


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_where_the_head_is_not_found_logits_are_chosen_behind_it(tmp_path, quiet, exporter):
    file = rewritten(exporter, tmp_path / "other", behind_the_head)

    assert head_input(read_decoder(file).model.graph.outputs[0]) is None
    assert package(file, tmp_path / "bundle", PackageOptions(), quiet).accuracy.mean_kl < 1e-9


def test_a_graph_that_says_something_else_is_refused(tmp_path, quiet):
    file = rewritten("optimum", tmp_path / "counting", without_positions)
    with pytest.raises(ExportError, match=r"does not say the same under bise's contract.* with input position_ids"):
        package(file, tmp_path / "bundle", PackageOptions(), quiet)
    assert not (tmp_path / "bundle").exists()


def test_a_graph_that_does_not_run_is_refused(tmp_path, quiet):
    """Its configuration is of another model, which shows only when it runs: the graph leaves the channels open."""
    folder = shutil.copytree(FOLDER / "genai", tmp_path / "genai")
    config = json.loads((folder / "genai_config.json").read_text(encoding="utf-8"))
    config["model"]["decoder"]["head_size"] = 8
    checkpoints.write_json(folder / "genai_config.json", config)
    with pytest.raises(ExportError, match="expected a graph that runs, got"):
        package(folder / "model.onnx", tmp_path / "bundle", PackageOptions(), quiet)


def test_a_tensor_cut_short_is_refused(tmp_path, quiet):
    def cut(graph):
        value = next(each for each in graph.initializers.values() if each.const_value.nbytes > 4096)
        short = ir.serde.serialize_tensor(value.const_value)
        short.raw_data = short.raw_data[:-4]
        value.const_value = ir.serde.TensorProtoTensor(short)

    file = rewritten("optimum", tmp_path / "cut", cut)
    with pytest.raises(BundleError, match="can't load the graph"):
        package(file, tmp_path / "bundle", PackageOptions(), quiet)


def test_a_context_beyond_the_graphs_is_refused(tmp_path, quiet):
    with pytest.raises(ExportError, match="--context: expected 1 to 256, which the graph is made for, got 257"):
        package(FOLDER / "genai" / "model.onnx", tmp_path / "b", PackageOptions(context=257), quiet)


def test_a_tokenizer_of_another_model_is_refused(tmp_path, quiet):
    checkpoints.write_huggingface(tmp_path / "other", replace(tiny.LLAMA, vocab_size=400), {})
    with pytest.raises(SourceError, match="expected token ids below the vocabulary's 320"):
        package(FOLDER / "optimum" / "model.onnx", tmp_path / "b", PackageOptions(tokenizer=tmp_path / "other"), quiet)


def test_what_bise_made_is_not_packaged_again(tiny_bundle, tmp_path, quiet):
    with pytest.raises(UnsupportedError, match="expected the inputs"):
        package(tiny_bundle / "model.onnx", tmp_path / "b", PackageOptions(), quiet)
