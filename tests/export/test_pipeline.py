"""The whole export: what every source gives, what is chosen when nothing is, and that it is the same each time."""

from __future__ import annotations

import errno
import importlib.util
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest

from bise_export import findings, pipeline
from bise_export.budget import resident_bytes
from bise_export.calibration import calibrate
from bise_export.errors import ExportError, UnsupportedError
from bise_export.pipeline import ExportOptions, export
from bise_export.prompts import CALIBRATION
from bise_export.runner import Runner
from bise_export.verify import verify
from bise_proto.bundle import check_files, read_manifest
from golden import checkpoints, tiny
from golden.make_logits import LOGITS, PROMPTS

UNVERIFIED = ExportOptions(verify=False)


class Recorded:
    """A progress that remembers."""

    def __init__(self):
        self.steps, self.warnings, self.total, self.done = [], [], {}, {}

    def step(self, name):
        self.steps.append(name)

    def warn(self, text):
        self.warnings.append(text)

    def weights(self, parameters):
        self.total[self.steps[-1]] = parameters

    def advance(self, parameters):
        self.done[self.steps[-1]] = self.done.get(self.steps[-1], 0) + parameters


@pytest.fixture(params=["gguf", "huggingface", "mistral"])
def source(request):
    """A tiny checkpoint of each kind, the same weights in all."""
    return request.getfixturevalue(f"tiny_{request.param}")


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_every_source_gives_transformers_logits(source, tmp_path, quiet):
    golden = np.load(LOGITS)
    export(source, tmp_path / "bundle", replace(UNVERIFIED, precision="fp32"), quiet)
    runner = Runner(tmp_path / "bundle", (tmp_path / "bundle" / "model.onnx").read_bytes(), "cpu", 64)

    for key, prompt in PROMPTS.items():
        np.testing.assert_allclose(runner.logits(prompt), golden[f"mistral/{key}"], rtol=0, atol=5e-5)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["int4", "int8", "fp16", "fp32"])
def test_every_source_gives_a_bundle_that_verifies(source, tmp_path, quiet, precision):
    bundle = export(source, tmp_path / "bundle", ExportOptions(precision=precision), quiet)

    assert bundle == read_manifest(tmp_path / "bundle")
    assert bundle.accuracy.positions > 1000
    assert bundle.accuracy.mean_kl < {"fp32": 1e-6, "fp16": 1e-5, "int8": 3e-3, "int4": 0.1}[precision]
    assert verify(tmp_path / "bundle").problems == []


@pytest.mark.slow
@pytest.mark.parametrize("vocabulary", [None, "int4"])
def test_symmetric_blocks_are_smaller_and_verify(tiny_gguf, tmp_path, quiet, vocabulary):
    options = replace(UNVERIFIED, vocabulary=vocabulary)
    plain = export(tiny_gguf, tmp_path / "plain", options, quiet).quantization
    found = export(tiny_gguf, tmp_path / "symmetric", replace(options, symmetric=True), quiet).quantization

    assert found.bits_per_weight < plain.bits_per_weight
    assert {each.format for each in found.classes if each.name == "mlp"} == {"int4 block 32 symmetric"}
    assert verify(tmp_path / "symmetric").problems == []


def test_two_exports_of_the_same_source_are_the_same_files(source, tmp_path, quiet):
    for name, threads, max_memory_bytes in (("one", 1, None), ("two", 3, resident_bytes() + (500 << 20))):
        options = replace(UNVERIFIED, threads=threads, max_memory_bytes=max_memory_bytes, kv="int8")
        export(source, tmp_path / name, options, quiet)

    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.parametrize(
    ("target", "precision", "dtype"),
    [
        ("cpu", "int4", "int8"),
        ("cpu", "int8", "float32"),
        ("cpu", "fp16", "float32"),
        ("cpu", "fp32", "float32"),
        ("cuda", "int4", "float16"),
        ("cuda", "fp32", "float16"),
    ],
)
def test_the_cache_when_none_is_chosen(tiny_gguf, tmp_path, quiet, target, precision, dtype):
    bundle = export(tiny_gguf, tmp_path / "b", replace(UNVERIFIED, target=target, precision=precision), quiet)

    width = np.dtype(dtype).itemsize
    assert bundle.kv_cache.dtype == dtype
    assert bundle.kv_cache.bytes_per_token == 2 * 3 * 2 * 32 * width


def test_progress_tells_the_steps_and_counts_every_matrix(tiny_gguf, tmp_path):
    progress = Recorded()
    bundle = export(tiny_gguf, tmp_path / "bundle", ExportOptions(), progress)

    assert progress.steps == [
        "reading the checkpoint",
        "calibrating",
        "writing int4 weights",
        "measuring accuracy",
        "hashing and publishing",
    ]
    norms = sum(each.parameters for each in bundle.quantization.classes if each.name == "norm")
    assert progress.done == progress.total
    assert progress.done["writing int4 weights"] == bundle.architecture.parameters - norms
    assert progress.done["calibrating"] < bundle.architecture.parameters
    assert progress.warnings == []


def test_the_manifest_says_what_the_bundle_is(tiny_huggingface, tmp_path, quiet):
    options = replace(UNVERIFIED, context=100, name="small", version="7", block_size=64)
    bundle = export(tiny_huggingface, tmp_path / "bundle", options, quiet)

    assert (bundle.name, bundle.version, bundle.graph.context) == ("small", "7", 100)
    assert (bundle.quantization.precision, bundle.quantization.block_size) == ("int4", 64)
    assert bundle.provenance.source_kind == "safetensors"
    assert {file.path for file in bundle.provenance.source_files} >= {"config.json", "model.safetensors"}
    listed = {file.path for file in bundle.files}
    assert listed == {path.as_posix() for path in contents(tmp_path / "bundle")} - {"bundle.json"}
    assert len(list(check_files(tmp_path / "bundle", bundle))) == len(listed)


@pytest.mark.parametrize(("precision", "block_size"), [("int4", 32), ("int4", 128), ("int8", 64), ("fp16", 32)])
def test_bits_per_weight_are_the_bytes_in_the_weight_file(tiny_gguf, tmp_path, quiet, precision, block_size):
    options = replace(UNVERIFIED, precision=precision, block_size=block_size, kv="fp32", context=1)
    bundle = export(tiny_gguf, tmp_path / "bundle", options, quiet)

    counted = sum(each.bytes for each in bundle.quantization.classes)
    tensors = 3 * 4 * 3 + 40  # an upper bound on the count, each padded to a page
    stored = (tmp_path / "bundle" / "model.onnx.data").stat().st_size
    assert counted < stored < counted + 4096 * tensors
    assert sum(each.parameters for each in bundle.quantization.classes) == bundle.architecture.parameters
    assert bundle.quantization.bits_per_weight == pytest.approx(8 * counted / bundle.architecture.parameters)


def test_a_cuda_bundle_says_so_and_is_not_measured_here(tiny_gguf, tmp_path, quiet):
    bundle = export(tiny_gguf, tmp_path / "bundle", ExportOptions(target="cuda"), quiet)

    assert (bundle.graph.target, bundle.graph.logits_dtype, bundle.kv_cache.dtype) == ("cuda", "float16", "float16")
    assert not bundle.HasField("accuracy")


def test_without_onnxruntime_an_export_goes_without_measuring(tiny_gguf, tmp_path, quiet, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(pipeline, "find_spec", lambda name: None if name == "onnxruntime" else found(name))

    assert not export(tiny_gguf, tmp_path / "bundle", ExportOptions(), quiet).HasField("accuracy")


def test_accuracy_is_measured_only_where_the_graph_fits(tiny_gguf, tmp_path, quiet, monkeypatch):
    monkeypatch.setattr(pipeline, "_BASE_BYTES", 0)

    assert not export(tiny_gguf, tmp_path / "one", ExportOptions(), quiet).HasField("accuracy")
    assert export(tiny_gguf, tmp_path / "two", ExportOptions(verify=True), quiet).HasField("accuracy")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (ExportOptions(context=257), ExportError, "--context: expected 1 to 256, .* got 257"),
        (ExportOptions(context=0), ExportError, "--context: expected 1 to 256"),
        (ExportOptions(target="cuda", kv="fp32"), UnsupportedError, "expected fp16 or int8"),
    ],
)
def test_options_that_do_not_go_together_are_refused(tiny_gguf, tmp_path, quiet, options, error, message):
    with pytest.raises(error, match=message):
        export(tiny_gguf, tmp_path / "out" / "bundle", options, quiet)

    assert not list((tmp_path).rglob("*.partial"))


def test_no_room_is_told_with_both_numbers_and_leaves_nothing(tiny_gguf, tmp_path, quiet, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=1000))

    with pytest.raises(ExportError, match=r"the bundle needs .* GB, 0\.00 GB are free\. Free some"):
        export(tiny_gguf, tmp_path / "bundle", UNVERIFIED, quiet)
    assert list(tmp_path.iterdir()) == [tiny_gguf]


@pytest.mark.parametrize(
    ("spare_bytes", "message"),
    [(1 << 20, "to quantize"), (12 << 20, r"to calibrate\. Give --max-memory .*MiB, or --precision int8 --kv fp32")],
)
def test_a_ceiling_that_is_too_low_is_refused_before_any_work(tiny_gguf, tmp_path, quiet, spare_bytes, message):
    options = replace(UNVERIFIED, max_memory_bytes=resident_bytes() + spare_bytes)

    with pytest.raises(ExportError, match=message):
        export(tiny_gguf, tmp_path / "bundle", options, quiet)
    assert list(tmp_path.iterdir()) == [tiny_gguf]


def test_a_disk_that_fills_up_on_the_way_leaves_nothing(tiny_gguf, tmp_path, quiet, monkeypatch):
    def full(*_arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)

    with pytest.raises(ExportError, match="No space left on device"):
        export(tiny_gguf, tmp_path / "bundle", UNVERIFIED, quiet)
    assert list(tmp_path.iterdir()) == [tiny_gguf]


def test_a_weight_too_large_for_half_precision_is_named(tmp_path, quiet):
    weights = tiny.weights(tiny.LLAMA)
    weights["model.layers.1.mlp.down_proj.weight"][3, 4] = 1e6
    source = checkpoints.write_huggingface(tmp_path / "source", tiny.LLAMA, weights)

    with pytest.raises(ExportError, match=r"layers\.1\.mlp\.down_proj: expected magnitudes of at most 65504"):
        export(source, tmp_path / "bundle", replace(UNVERIFIED, precision="fp16"), quiet)
    assert not (tmp_path / "bundle").exists()


def test_scales_are_those_of_the_calibration_texts(tiny_gguf, tmp_path, quiet, monkeypatch):
    seen = []

    def recorded(spec, weights, prompts):
        seen.append(prompts)
        return calibrate(spec, weights, prompts)

    monkeypatch.setattr(findings, "calibrate", recorded)
    export(tiny_gguf, tmp_path / "int8", replace(UNVERIFIED, kv="int8"), quiet)
    export(tiny_gguf, tmp_path / "int8 fp32", replace(UNVERIFIED, precision="int8", kv="fp32"), quiet)

    ((prompts),) = seen
    assert len(prompts) == len(CALIBRATION)
    assert all(prompt[0] == tiny.MISTRAL.bos_token_id for prompt in prompts)
