"""Verification on whole tiny bundles: what it lets pass, and each thing it must catch."""

from __future__ import annotations

import json
import shutil

import numpy as np
import onnx
import pytest
from google.protobuf import json_format

from bise_export.agreement import compare
from bise_export.architecture import spec_of
from bise_export.decoded import Decoded
from bise_export.errors import ExportError, SourceError
from bise_export.prompts import VERIFICATION
from bise_export.reference import Reference
from bise_export.runner import Runner
from bise_export.sources.checkpoint import Checkpoint
from bise_export.verify import greedy_agreement, measure, verify
from bise_proto.bundle import MANIFEST, BundleError, describe, read_manifest
from bise_proto.v1 import bundle_pb2
from golden import tiny, tiny_bundle
from golden.in_memory import InMemory, weights_of
from golden.make_logits import LOGITS, PROMPTS
from golden.tiny_bundle import Kind

KINDS = [Kind(precision, kv) for precision in ("fp32", "fp16", "int8", "int4") for kv in ("float32", "float16", "int8")]
# As many tokens as the calibration texts have; random, as the tiny models' weights are.
CALIBRATED_ON = np.random.default_rng(5).integers(0, tiny.LLAMA.vocab_size, (8, 100)).tolist()
GREEDY_FROM = list(PROMPTS.values())


def checkpoint_of(spec, weights=None):
    return Checkpoint("test", "tiny", spec, weights or weights_of(spec), (), lambda _folder: None)


@pytest.fixture(scope="session")
def int4_bundle(tmp_path_factory):
    """A bundle nobody may change."""
    folder = tmp_path_factory.mktemp("shared") / "int4"
    tiny_bundle.write(folder, tiny.LLAMA, Kind("int4", "int8"), CALIBRATED_ON)
    return folder


@pytest.fixture
def own_bundle(int4_bundle, tmp_path):
    """A copy of it to break."""
    return shutil.copytree(int4_bundle, tmp_path / "own")


def change_graph(folder, change):
    """Edits the graph and signs it again, as a wrong exporter would."""
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    change(model.graph)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    sign(folder)


def sign(folder):
    bundle = json_format.Parse((folder / MANIFEST).read_text(), bundle_pb2.Bundle())
    files = [describe(folder, file.path) for file in bundle.files]
    del bundle.files[:]
    bundle.files.extend(files)
    (folder / MANIFEST).write_text(json_format.MessageToJson(bundle, preserving_proto_field_name=True))


def initializer(graph, name):
    (found,) = (each for each in graph.initializer if each.name == name)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.precision}-{kind.kv}")
@pytest.mark.parametrize("spec", tiny.SPECS.values(), ids=tiny.SPECS)
def test_every_kind_of_bundle_computes_what_its_bytes_say(tmp_path, spec, kind):
    tiny_bundle.write(tmp_path / "bundle", spec, kind, CALIBRATED_ON)

    report = verify(tmp_path / "bundle", checkpoint_of(spec))

    assert report.problems == []
    assert report.files == 3
    assert report.parity.positions > 1000
    assert report.parity.top1_agreement > 0.99
    if kind.kv != "int8":
        assert report.parity.max_logit_difference < 1e-4
    assert report.accuracy.mean_kl < {"fp32": 1e-3, "fp16": 1e-3, "int8": 3e-3, "int4": 0.1}[kind.precision]


@pytest.mark.parametrize("name", sorted(tiny.SPECS))
def test_the_graph_agrees_with_transformers(tmp_path, name):
    golden = np.load(LOGITS)
    tiny_bundle.write(tmp_path / "bundle", tiny.SPECS[name], Kind("fp32"), CALIBRATED_ON)
    runner = Runner(tmp_path / "bundle", (tmp_path / "bundle" / "model.onnx").read_bytes(), "cpu", 64)

    for key, prompt in PROMPTS.items():
        np.testing.assert_allclose(runner.logits(prompt), golden[f"{name}/{key}"], rtol=0, atol=5e-5)


@pytest.mark.parametrize("name", sorted(tiny.SPECS))
def test_greedy_tokens_of_an_fp32_bundle_are_the_references(tmp_path, name):
    spec = tiny.SPECS[name]
    tiny_bundle.write(tmp_path / "bundle", spec, Kind("fp32"), CALIBRATED_ON)
    runner = Runner(tmp_path / "bundle", (tmp_path / "bundle" / "model.onnx").read_bytes(), "cpu", 96)

    assert greedy_agreement(runner, Reference(spec, weights_of(spec)), GREEDY_FROM, tokens=40) == [40, 40, 40]


def test_greedy_agreement_counts_up_to_the_first_difference(tmp_path):
    tiny_bundle.write(tmp_path / "bundle", tiny.LLAMA, Kind("fp32"), CALIBRATED_ON)
    runner = Runner(tmp_path / "bundle", (tmp_path / "bundle" / "model.onnx").read_bytes(), "cpu", 96)
    other = Reference(tiny.LLAMA, weights_of(tiny.LLAMA, seed=1))

    assert max(greedy_agreement(runner, other, GREEDY_FROM, tokens=20)) < 20


@pytest.mark.slow
def test_accuracy_tells_what_quantization_lost(int4_bundle):
    report = verify(int4_bundle, checkpoint_of(tiny.LLAMA))

    assert report.accuracy.mean_kl > 100 * report.parity.mean_kl
    assert report.accuracy.top1_agreement < 1
    assert (report.accuracy.prompts, report.accuracy.positions) == (len(VERIFICATION), report.parity.positions)
    assert report.accuracy.reference_version
    assert report.accuracy.perplexity_ratio != 1


def test_without_a_checkpoint_only_parity_is_measured(int4_bundle):
    steps = []
    report = verify(int4_bundle, step=steps.append)

    assert report.accuracy is None
    assert report.problems == []
    assert steps == ["checking every file's hash", "running the graph against its own decoded weights"]


def test_decoded_weights_are_near_the_checkpoints(int4_bundle):
    bundle = read_manifest(int4_bundle)
    decoded = Decoded(int4_bundle, bundle).weights()

    assert spec_of(bundle) == tiny.LLAMA
    for name, values in tiny.weights(tiny.LLAMA).items():
        found = decoded[name]
        assert found.shape == values.shape
        whole = found.rows(0, len(values))
        assert np.abs(whole - values).mean() < 0.15 * values.std() + 1e-6
        np.testing.assert_array_equal(found.rows(3, 7), whole[3:7])


def test_one_flipped_byte_is_found(own_bundle):
    weights = own_bundle / "model.onnx.data"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)

    with pytest.raises(BundleError, match=r"model\.onnx\.data: expected sha256"):
        verify(own_bundle)


def read_up_before_gate(graph):
    (split,) = (node for node in graph.node if node.op_type == "Split" and "layers.1." in node.output[0])
    split.output[0], split.output[1] = split.output[1], split.output[0]


def rotate_interleaved(graph):
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name == "rotary_interleaved":
                attribute.i = 1


def coarser_epsilon(graph):
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name == "epsilon":
                attribute.f = 0.3


@pytest.mark.slow
@pytest.mark.parametrize("mistake", [read_up_before_gate, rotate_interleaved, coarser_epsilon])
def test_a_graph_that_computes_something_else_is_found(own_bundle, mistake):
    change_graph(own_bundle, mistake)

    report = verify(own_bundle)

    (problem,) = report.problems
    assert "the graph does not compute what its bytes say: expected a mean KL of at most 0.002" in problem


def test_logits_that_are_not_numbers_are_found(tmp_path):
    values = tiny.weights(tiny.LLAMA) | {"model.norm.weight": np.full(64, np.nan, np.float32)}
    weights = {name: InMemory(array) for name, array in values.items()}
    tiny_bundle.write(tmp_path / "bundle", tiny.LLAMA, Kind("fp32"), CALIBRATED_ON, weights)

    report = verify(tmp_path / "bundle")

    assert report.parity.mean_kl == float("inf")
    assert report.problems


@pytest.mark.slow
def test_what_onnxruntime_warns_of_is_reported(own_bundle):
    def unused(graph):
        graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(3, np.float32), "unused_weight"))

    change_graph(own_bundle, unused)

    (problem,) = verify(own_bundle).problems
    assert "onnxruntime warned" in problem
    assert "unused_weight" in problem


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("location", "../elsewhere", "in one of .*model.onnx.data.* got '../elsewhere'"),
        ("offset", "99999999999", "within the .* bytes of model.onnx.data, got .* at 99999999999"),
        ("offset", "-4096", "got .* at -1"),
        ("length", "17", "got 17 at"),
    ],
)
def test_a_weight_placed_outside_the_weight_file_is_refused(own_bundle, field, value, message):
    def misplace(graph):
        for entry in initializer(graph, "model.layers.2.mlp.down_proj.weight_quantized").external_data:
            if entry.key == field:
                entry.value = value

    change_graph(own_bundle, misplace)

    with pytest.raises(BundleError, match=message):
        Decoded(own_bundle, read_manifest(own_bundle)).weights()


def test_a_missing_weight_is_named(own_bundle):
    def drop(graph):
        graph.initializer.remove(initializer(graph, "model.layers.0.input_layernorm.weight"))

    change_graph(own_bundle, drop)

    with pytest.raises(BundleError, match=r"expected an initializer model\.layers\.0\.input_layernorm\.weight"):
        verify(own_bundle)


def test_a_weight_of_another_shape_is_named(own_bundle):
    def widen(graph):
        initializer(graph, "model.norm.weight").dims[0] = 65

    change_graph(own_bundle, widen)

    with pytest.raises(BundleError, match=r"expected model\.norm\.weight with 64 elements .* got shape \[65\]"):
        verify(own_bundle)


def test_a_graph_that_is_no_graph_is_refused(own_bundle):
    (own_bundle / "model.onnx").write_bytes(b"\xff" * 100)
    sign(own_bundle)

    with pytest.raises(BundleError, match="not an ONNX model"):
        verify(own_bundle)


def test_a_graph_that_does_not_load_is_refused(own_bundle):
    def rename(graph):
        graph.node[-1].op_type = "NoSuchOperator"

    change_graph(own_bundle, rename)

    with pytest.raises(BundleError, match=r"onnxruntime can't load the graph.*NoSuchOperator"):
        Runner(own_bundle, (own_bundle / "model.onnx").read_bytes(), "cpu", 8)


def test_another_models_checkpoint_is_refused(int4_bundle):
    with pytest.raises(SourceError, match=r"expected the checkpoint that .* was made from"):
        verify(int4_bundle, checkpoint_of(tiny.MISTRAL))


def test_a_target_that_is_not_known_is_refused(own_bundle):
    manifest = json.loads((own_bundle / MANIFEST).read_text())
    manifest["graph"]["target"] = "abacus"
    (own_bundle / MANIFEST).write_text(json.dumps(manifest))

    with pytest.raises(BundleError, match="expected target cpu or cuda, got 'abacus'"):
        verify(own_bundle)


@pytest.mark.slow
def test_a_bundle_can_be_measured_before_it_has_a_manifest(own_bundle):
    bundle = read_manifest(own_bundle)
    (own_bundle / MANIFEST).unlink()

    assert measure(own_bundle, bundle, checkpoint_of(tiny.LLAMA)).accuracy.positions > 1000


def test_a_row_longer_than_the_runner_holds_is_refused(int4_bundle):
    runner = Runner(int4_bundle, (int4_bundle / "model.onnx").read_bytes(), "cpu", 4)

    with pytest.raises(ExportError, match="expected at most 4 tokens in a row, got 5"):
        runner.logits([1, 2, 3, 4, 5])


def test_two_models_that_are_the_same_agree_entirely():
    logits = np.random.default_rng(0).standard_normal((40, 50)).astype(np.float32)
    found = compare([(list(range(40)), logits, logits + 3), ([7], logits[:1], logits[:1])])

    assert (found.prompts, found.positions, found.top1_agreement) == (2, 41, 1)
    assert found.mean_kl < 1e-9  # a constant added to every logit changes no distribution
    assert found.max_logit_difference == pytest.approx(3)


def test_divergence_is_the_textbooks():
    p, q = np.array([0.7, 0.2, 0.1]), np.array([0.2, 0.5, 0.3])
    found = compare([([0], np.log(p, dtype=np.float32)[None], np.log(q, dtype=np.float32)[None])])

    assert found.mean_kl == pytest.approx((p * np.log(p / q)).sum(), rel=1e-5)
    assert found.top1_agreement == 0
    assert found.perplexity_ratio == 1, "one token has none that follows"


def test_the_perplexity_ratio_is_of_the_tokens_that_came():
    p, q = np.array([[0.7, 0.2, 0.1]] * 3, np.float32), np.array([[0.2, 0.5, 0.3]] * 3, np.float32)
    found = compare([([0, 1, 0], np.log(p), np.log(q)), ([2, 2], np.log(p[:2]), np.log(q[:2]))])

    assert found.perplexity_ratio == pytest.approx((0.2 / 0.5 * 0.7 / 0.2 * 0.1 / 0.3) ** (1 / 3), rel=1e-5)
