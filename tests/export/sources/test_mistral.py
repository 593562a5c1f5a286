"""Mistral's own form: what params.json may say, and how its weights may be spread."""

from __future__ import annotations

from pathlib import Path

import pytest

from bise_export.errors import ExportError, SourceError, UnsupportedError
from bise_export.sources.json_document import read_json
from bise_export.sources.names import MISTRAL
from bise_export.sources.open import open_checkpoint
from golden import checkpoints, tiny

WEIGHTS = tiny.weights(tiny.MISTRAL)


def without(folder: Path, *keys: str) -> Path:
    params = read_json(folder / "params.json")
    checkpoints.write_json(folder / "params.json", {key: value for key, value in params.items() if key not in keys})
    return folder


def test_params_that_older_models_leave_out_have_their_meaning(tiny_mistral: Path) -> None:
    keys = ("max_seq_len", "tied_embeddings", "sliding_window", "rope_theta")
    spec = open_checkpoint(without(tiny_mistral, *keys)).spec
    assert (spec.trained_context, spec.tied_embeddings, spec.sliding_window) == (32768, False, None)
    assert spec.rope_theta == 10000.0


@pytest.mark.parametrize(
    "params",
    [
        {"moe": {"num_experts": 8}},
        {"vision_encoder": {"hidden_size": 8}},
        {"quantization": {"qformat_weight": "fp8_e4m3"}},
        {"yarn": {"factor": 16}},
        {"llama_4_scaling": {"beta": 0.1}},
        {"use_biases": True},
        {"some_new_thing": 1},
    ],
)
def test_a_param_that_asks_for_more_is_refused_by_name(tmp_path: Path, params: dict[str, object]) -> None:
    (key,) = params
    with pytest.raises(UnsupportedError, match=rf"params.json: '{key}'"):
        open_checkpoint(checkpoints.write_mistral(tmp_path, tiny.MISTRAL, WEIGHTS, params=params))


@pytest.mark.parametrize("params", [{"use_biases": False}, {"moe": None}, {"max_batch_size": 4}])
def test_a_param_that_asks_for_nothing_is_let_be(tmp_path: Path, params: dict[str, object]) -> None:
    assert open_checkpoint(checkpoints.write_mistral(tmp_path, tiny.MISTRAL, WEIGHTS, params=params)).weights


def test_a_missing_param_is_named(tiny_mistral: Path) -> None:
    with pytest.raises(SourceError, match=r"params.json: hidden_size: expected an integer, got nothing"):
        open_checkpoint(without(tiny_mistral, "dim"))


def test_numbered_files_are_one_checkpoint(tiny_mistral: Path) -> None:
    _split(tiny_mistral, 3)
    assert open_checkpoint(tiny_mistral).weights.keys() == WEIGHTS.keys()


def test_a_missing_numbered_file_is_noticed(tiny_mistral: Path) -> None:
    _split(tiny_mistral, 3)
    (tiny_mistral / "consolidated-00002-of-00003.safetensors").unlink()
    with pytest.raises(SourceError, match="expected it as one of 3 files by its name, got 2"):
        open_checkpoint(tiny_mistral)


def test_an_index_is_followed(tiny_mistral: Path) -> None:
    weight_map = _split(tiny_mistral, 2)
    checkpoints.write_json(tiny_mistral / "consolidated.safetensors.index.json", {"weight_map": weight_map})
    assert open_checkpoint(tiny_mistral).weights.keys() == WEIGHTS.keys()
    (tiny_mistral / "consolidated-00002-of-00002.safetensors").unlink()
    with pytest.raises(SourceError, match=r"1 missing: consolidated-00002-of-00002.safetensors"):
        open_checkpoint(tiny_mistral)


def test_weights_under_other_formats_names_are_refused(tiny_mistral: Path) -> None:
    checkpoints.write_safetensors(tiny_mistral / "consolidated.safetensors", WEIGHTS)
    with pytest.raises(ExportError, match="under a name bise does not know"):
        open_checkpoint(tiny_mistral)


def _split(folder: Path, count: int) -> dict[str, str]:
    (folder / "consolidated.safetensors").unlink()
    stored = checkpoints.stored_as(WEIGHTS, MISTRAL, tiny.MISTRAL)
    weight_map = {}
    for number in range(count):
        file = f"consolidated-{number + 1:05}-of-{count:05}.safetensors"
        held = {name: stored[name] for name in sorted(stored)[number::count]}
        checkpoints.write_safetensors(folder / file, held)
        weight_map |= dict.fromkeys(held, file)
    return weight_map
