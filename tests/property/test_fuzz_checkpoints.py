"""Whatever is given as a checkpoint: it is opened, or refused as one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bise_export.errors import ExportError
from bise_export.families.config import Config
from bise_export.families.registry import build_spec
from bise_export.sources.json_document import read_json
from bise_export.sources.open import open_checkpoint
from bise_export.sources.safetensors import read_safetensors
from golden import checkpoints, families, tiny
from property.hostile import FUZZ, changed_bytes, changed_json, hostile_json, survives

pytestmark = pytest.mark.slow

Make = Callable[[Path], Path]


def open_and_write(source: Path, folder: Path) -> None:
    """All that is read of a checkpoint before its weights are."""
    folder.mkdir(exist_ok=True)
    checkpoint = open_checkpoint(source)
    checkpoint.write_tokenizer(folder)


@pytest.fixture
def huggingface(tmp_path: Path) -> Path:
    return checkpoints.write_huggingface(tmp_path / "checkpoint", tiny.LLAMA, tiny.weights(tiny.LLAMA), shards=2)


@pytest.fixture
def mistral(tmp_path: Path) -> Path:
    return checkpoints.write_mistral(tmp_path / "checkpoint", tiny.MISTRAL, tiny.weights(tiny.MISTRAL))


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors.index.json"]
)
@FUZZ
@given(data=st.data())
def test_any_file_of_hugging_faces(huggingface: Path, tmp_path: Path, data: st.DataObject, name: str) -> None:
    check(huggingface, name, tmp_path, data)


@pytest.mark.parametrize("family", families.CONFIGS)
@FUZZ
@given(data=st.data())
def test_any_config_of_each_family(tmp_path: Path, data: st.DataObject, family: str) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(data.draw(changed_json(json.dumps(families.CONFIGS[family]).encode())))
    survives(lambda: build_spec(Config(read_json(path), path)).weight_shapes(), ExportError)


@pytest.mark.parametrize("name", ["params.json", "tekken.json"])
@FUZZ
@given(data=st.data())
def test_any_file_of_mistrals(mistral: Path, tmp_path: Path, data: st.DataObject, name: str) -> None:
    check(mistral, name, tmp_path, data)


def check(source: Path, name: str, tmp_path: Path, data: st.DataObject) -> None:
    path = source / name
    valid = path.read_bytes()
    path.write_bytes(data.draw(hostile_json(valid)))
    try:
        survives(lambda: open_and_write(source, tmp_path / "tokenizer"), ExportError)
    finally:
        path.write_bytes(valid)


@FUZZ
@given(data=st.data())
def test_any_safetensors_header(mistral: Path, tmp_path: Path, data: st.DataObject) -> None:
    whole = (mistral / "consolidated.safetensors").read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = data.draw(changed_json(whole[8 : 8 + length]))
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + whole[8 + length :])
    survives(lambda: read_safetensors(path), ExportError)
    path.write_bytes(data.draw(changed_bytes(whole, within=8 + length)))
    survives(lambda: read_safetensors(path), ExportError)


@FUZZ
@given(data=st.data())
def test_any_gguf_header(tmp_path: Path, data: st.DataObject) -> None:
    path = checkpoints.write_gguf(tmp_path / "x.gguf", tiny.LLAMA, tiny.weights(tiny.LLAMA))
    whole = path.read_bytes()
    path.write_bytes(data.draw(changed_bytes(whole, within=data.draw(st.sampled_from((64, 2048, 16384))))))
    survives(lambda: open_and_write(path, tmp_path / "tokenizer"), ExportError)
