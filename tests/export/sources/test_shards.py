"""Sharded checkpoints: whole ones open, and an index is never trusted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bise_export.errors import SourceError
from bise_export.sources.json_document import read_json
from bise_export.sources.open import open_checkpoint
from bise_export.sources.shards import read_files
from golden import checkpoints, tiny

INDEX = "model.safetensors.index.json"


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    weights = tiny.weights(tiny.LLAMA)
    return checkpoints.write_huggingface(tmp_path / "sharded", tiny.LLAMA, weights, shards=3)


def test_shards_give_the_same_weights_as_one_file(sharded: Path) -> None:
    checkpoint = open_checkpoint(sharded)
    for name, values in tiny.weights(tiny.LLAMA).items():
        np.testing.assert_array_equal(checkpoint.weights[name].rows(0, len(values)), values)
    names = {file.name for file in checkpoint.files}
    assert {INDEX, *(f"model-0000{shard}-of-00003.safetensors" for shard in (1, 2, 3))} <= names


def test_a_missing_shard_is_named(sharded: Path) -> None:
    (sharded / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(SourceError, match=r"expected 3 files beside it, 1 missing: model-00002-of-00003.safetensors"):
        open_checkpoint(sharded)


@pytest.mark.parametrize(
    "place",
    [
        "../outside.safetensors",
        "/etc/outside.safetensors",
        "sub/../../outside.safetensors",
        "sub/x.safetensors",
        "..\\outside.safetensors",
        "model\0.safetensors",
        "..",
        "",
        "passwd",
        7,
    ],
)
def test_a_shard_outside_the_folder_is_refused(sharded: Path, place: object) -> None:
    checkpoints.write_safetensors(sharded.parent / "outside.safetensors", tiny.weights(tiny.LLAMA))
    index = read_json(sharded / INDEX)
    index["weight_map"]["model.norm.weight"] = place
    checkpoints.write_json(sharded / INDEX, index)
    with pytest.raises(SourceError, match=rf"{INDEX}: expected (files in its own folder|names of .safetensors files)"):
        open_checkpoint(sharded)


@pytest.mark.parametrize("weight_map", [None, {}, [], "x"])
def test_an_index_without_a_map_is_refused(sharded: Path, weight_map: object) -> None:
    checkpoints.write_json(sharded / INDEX, {"weight_map": weight_map})
    with pytest.raises(SourceError, match="weight_map: expected files by tensor"):
        open_checkpoint(sharded)


def test_a_tensor_that_is_elsewhere_is_named(sharded: Path) -> None:
    index = read_json(sharded / INDEX)
    (place,) = {"model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors"} - {
        index["weight_map"]["model.norm.weight"],
        "model-00001-of-00003.safetensors",
    } or {"model-00001-of-00003.safetensors"}
    index["weight_map"]["model.norm.weight"] = place
    checkpoints.write_json(sharded / INDEX, index)
    with pytest.raises(SourceError, match=rf"{place}: expected the weight 'model.norm.weight' by {INDEX}"):
        open_checkpoint(sharded)


def test_a_tensor_in_two_files_is_refused(tmp_path: Path) -> None:
    files = [checkpoints.write_safetensors(tmp_path / name, {"w": np.ones(2, np.float32)}) for name in ("a", "b")]
    with pytest.raises(SourceError, match=r"'w' also in .*a"):
        read_files(files)
