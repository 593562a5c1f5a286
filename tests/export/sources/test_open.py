"""Every kind of checkpoint opens, gives the same weights, and fails with one clear sentence where it is broken."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bise_export.errors import ExportError, SourceError, UnsupportedError
from bise_export.sources.checkpoint import Checkpoint
from bise_export.sources.open import open_checkpoint
from golden import checkpoints, tiny

KINDS = {"gguf": "tiny_gguf", "safetensors": "tiny_huggingface", "mistral": "tiny_mistral"}


def whole(checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    return {name: weight.rows(0, weight.shape[0]) for name, weight in checkpoint.weights.items()}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def source(kind: str, request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(KINDS[kind])


def test_every_kind_gives_the_weights_it_was_written_from(kind: str, source: Path) -> None:
    checkpoint = open_checkpoint(source)
    assert checkpoint.kind == kind
    expected = tiny.weights(tiny.MISTRAL)
    got = whole(checkpoint)
    assert list(got) == list(tiny.MISTRAL.weight_shapes())
    for name, values in expected.items():
        np.testing.assert_array_equal(got[name], values, err_msg=name)


def test_every_kind_gives_the_spec_it_was_written_from(kind: str, source: Path) -> None:
    got = open_checkpoint(source).spec
    assert got.rms_norm_eps == pytest.approx(tiny.MISTRAL.rms_norm_eps)  # GGUF holds it as float32
    # llama.cpp writes one architecture for both families.
    family = "llama" if kind == "gguf" else "mistral"
    assert replace(got, rms_norm_eps=tiny.MISTRAL.rms_norm_eps) == replace(tiny.MISTRAL, family=family)


@pytest.mark.parametrize("spec", [tiny.LLAMA, tiny.SLIDING], ids=["tied", "sliding"])
@pytest.mark.parametrize("write", [checkpoints.write_gguf, checkpoints.write_huggingface])
def test_tied_and_sliding_models_keep_what_they_are(tmp_path: Path, spec: object, write: object) -> None:
    weights = tiny.weights(spec)
    got = open_checkpoint(write(tmp_path / "model.gguf", spec, weights))
    assert replace(got.spec, rms_norm_eps=spec.rms_norm_eps) == spec
    assert got.weights.keys() == weights.keys()


def test_provenance_names_every_file_the_bundle_depends_on(kind: str, source: Path) -> None:
    expected = {source.name} if source.is_file() else {file.name for file in source.iterdir()}
    files = open_checkpoint(source).files
    assert {file.name for file in files} == expected
    assert len(set(files)) == len(files)


def test_a_folder_with_one_gguf_is_that_gguf(tiny_gguf: Path) -> None:
    assert open_checkpoint(tiny_gguf.parent).kind == "gguf"


def test_hugging_face_is_preferred_where_both_forms_are(tiny_huggingface: Path, tiny_mistral: Path) -> None:
    shutil.copytree(tiny_mistral, tiny_huggingface, dirs_exist_ok=True)
    assert open_checkpoint(tiny_huggingface).kind == "safetensors"


def test_mistrals_form_is_read_where_hugging_faces_has_no_weights(tiny_huggingface: Path, tiny_mistral: Path) -> None:
    shutil.copy(tiny_huggingface / "config.json", tiny_mistral)
    assert open_checkpoint(tiny_mistral).kind == "mistral"


def test_a_snapshot_of_links_into_a_blob_store_opens(tmp_path: Path) -> None:
    blobs = checkpoints.write_huggingface(tmp_path / "blobs", tiny.LLAMA, tiny.weights(tiny.LLAMA), shards=2)
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    for blob in blobs.iterdir():
        (snapshot / blob.name).symlink_to(blob)
    assert open_checkpoint(snapshot).weights


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth"])
def test_pickles_are_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x80\x04")
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(UnsupportedError, match=rf"{name}.*pickle.*[Cc]onvert to safetensors"):
            open_checkpoint(path)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "got no files"),
        (["notes.txt"], "got notes.txt"),
        (["a.gguf", "b.gguf"], r"expected one .gguf file, got 2: a.gguf, b.gguf"),
        (["config.json"], "got config.json"),
        (["model-00001-of-00002.gguf", "model-00002-of-00002.gguf"], "got part 00001 of 00002"),
        (["model-00002-of-00002.gguf"], "got part 00002 of 00002"),
    ],
)
def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path: Path, files: list[str], message: str) -> None:
    for file in files:
        (tmp_path / file).touch()
    with pytest.raises(ExportError, match=message):
        open_checkpoint(tmp_path)


def test_a_path_that_is_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file or folder"):
        open_checkpoint(tmp_path / "absent")


def test_a_file_inside_a_checkpoint_leads_to_its_folder(tiny_huggingface: Path) -> None:
    with pytest.raises(SourceError, match=rf"Give its folder, {tiny_huggingface}\."):
        open_checkpoint(tiny_huggingface / "model.safetensors")


def test_a_missing_weight_is_named(tmp_path: Path, kind: str) -> None:
    weights = tiny.weights(tiny.MISTRAL)
    del weights["model.layers.1.mlp.up_proj.weight"]
    with pytest.raises(SourceError, match=r"expected a weight model.layers.1.mlp.up_proj.weight of shape \[128, 96\]"):
        open_checkpoint(_write(tmp_path, kind, weights))


@pytest.mark.parametrize("name", ["model.layers.3.mlp.up_proj.weight", "model.layers.0.self_attn.q_proj.bias"])
def test_a_weight_that_would_be_left_out_is_named(tmp_path: Path, kind: str, name: str) -> None:
    weights = tiny.weights(tiny.MISTRAL) | {name: np.ones((128, 96), np.float32)}
    with pytest.raises(SourceError, match=r"\[128, 96\].*It would be left out"):
        open_checkpoint(_write(tmp_path, kind, weights))


def test_a_wrong_shape_is_named_with_both_shapes(tmp_path: Path, kind: str) -> None:
    weights = tiny.weights(tiny.MISTRAL)
    weights["model.layers.1.mlp.up_proj.weight"] = np.ones((96, 128), np.float32)
    with pytest.raises(SourceError, match=r"layers.1.mlp.up_proj.weight: expected shape \[128, 96\].*got \[96, 128\]"):
        open_checkpoint(_write(tmp_path, kind, weights))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_none_fails_the_read_naming_its_place(tmp_path: Path, kind: str, value: float) -> None:
    weights = tiny.weights(tiny.MISTRAL)
    weights["model.layers.2.mlp.down_proj.weight"][7, 5] = value
    weight = open_checkpoint(_write(tmp_path, kind, weights)).weights["model.layers.2.mlp.down_proj.weight"]
    with pytest.raises(
        SourceError, match=rf"{weight.file}: model.layers.2.mlp.down_proj.weight: .*got {value} at \[7, 5\]"
    ):
        weight.rows(4, 9)
    assert weight.rows(8, 9).shape == (1, 128)


def test_an_inv_freq_buffer_is_let_be(tmp_path: Path) -> None:
    weights = tiny.weights(tiny.LLAMA) | {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(8, np.float32)}
    checkpoint = open_checkpoint(checkpoints.write_huggingface(tmp_path, tiny.LLAMA, weights))
    assert checkpoint.weights.keys() == tiny.LLAMA.weight_shapes().keys()


def test_a_head_equal_to_tied_embeddings_is_let_be(tmp_path: Path) -> None:
    weights = tiny.weights(tiny.LLAMA)
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].copy()
    checkpoint = open_checkpoint(checkpoints.write_huggingface(tmp_path, tiny.LLAMA, weights))
    assert "lm_head.weight" not in checkpoint.weights


def test_a_head_unlike_tied_embeddings_is_refused(tmp_path: Path) -> None:
    weights = tiny.weights(tiny.LLAMA)
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].copy()
    weights["lm_head.weight"][-1, -1] += 1
    with pytest.raises(SourceError, match=r"lm_head.weight.*set tie_word_embeddings to false"):
        open_checkpoint(checkpoints.write_huggingface(tmp_path, tiny.LLAMA, weights))


def test_a_file_cut_after_it_was_opened_fails_the_read(tiny_huggingface: Path) -> None:
    checkpoint = open_checkpoint(tiny_huggingface)
    os.truncate(tiny_huggingface / "model.safetensors", 1000)
    with pytest.raises(SourceError, match="cut short since it was opened"):
        whole(checkpoint)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ru_maxrss is in KiB on Linux only")
def test_reading_a_large_tensor_by_rows_keeps_little_resident(tmp_path: Path) -> None:
    vocab_size = 1 << 15
    spec = replace(tiny.LLAMA, num_layers=1, hidden_size=512, vocab_size=vocab_size)
    weights = tiny.weights(replace(spec, vocab_size=320))
    weights["model.embed_tokens.weight"] = np.ones((vocab_size, spec.hidden_size), np.float32)  # 64 MiB
    folder = checkpoints.write_huggingface(
        tmp_path, replace(spec, vocab_size=320), weights, config={"vocab_size": vocab_size}
    )
    script = (
        "import resource, sys; from pathlib import Path; from bise_export.sources.open import open_checkpoint\n"
        "checkpoint = open_checkpoint(Path(sys.argv[1]))\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "weight = checkpoint.weights['model.embed_tokens.weight']\n"
        "for start in range(0, weight.shape[0], 1024): weight.rows(start, start + 1024)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(folder)], capture_output=True, text=True, check=True)
    assert int(done.stdout) * 1024 < 16 << 20  # a chunk is 2 MiB


@pytest.mark.real_model
def test_smollm2_opens_without_staying_resident(smollm2_gguf: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    checkpoint = open_checkpoint(smollm2_gguf)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 100 << 20
    assert checkpoint.spec.num_layers == 30
    assert checkpoint.spec.tied_embeddings
    assert (checkpoint.spec.num_heads, checkpoint.spec.num_kv_heads, checkpoint.spec.head_dim) == (9, 3, 64)
    assert checkpoint.spec.eos_token_ids == (2,)
    assert {weight.dtype for weight in checkpoint.weights.values()} == {"Q4_1", "Q8_0", "F32"}


def _write(folder: Path, kind: str, weights: checkpoints.Weights) -> Path:
    writers = {
        "gguf": checkpoints.write_gguf,
        "safetensors": checkpoints.write_huggingface,
        "mistral": checkpoints.write_mistral,
    }
    return writers[kind](folder / "model.gguf", tiny.MISTRAL, weights)
