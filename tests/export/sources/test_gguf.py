"""What GGUF metadata may say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bise_export.errors import SourceError, UnsupportedError
from bise_export.sources.checkpoint import Checkpoint
from bise_export.sources.open import open_checkpoint
from golden import checkpoints, tiny


def opened(folder: Path, metadata: dict[str, object], spec: object = tiny.MISTRAL) -> Checkpoint:
    return open_checkpoint(checkpoints.write_gguf(folder / "x.gguf", spec, tiny.weights(spec), metadata=metadata))


@pytest.mark.parametrize(
    "metadata",
    [
        {"llama.rope.scaling.type": "yarn"},
        {"llama.rope.scaling.type": "linear"},
        {"llama.rope.scaling.factor": 4.0},
        {"llama.rope.dimension_count": 16},
        {"llama.attention.value_length": 16},
        {"llama.expert_count": 8},
        {"llama.logit_scale": 0.5},
    ],
)
def test_what_bise_does_not_do_is_refused_by_name(tmp_path: Path, metadata: dict[str, object]) -> None:
    (key,) = metadata
    with pytest.raises(UnsupportedError, match=rf"x.gguf: {key}.*expected"):
        opened(tmp_path, metadata)


def test_another_architecture_is_refused_by_name(tiny_gguf: Path) -> None:
    written = tiny_gguf.read_bytes()
    tiny_gguf.write_bytes(written.replace(b"llama", b"gemma", 1))  # general.architecture comes first
    with pytest.raises(UnsupportedError, match=r"general.architecture: expected 'llama', got 'gemma'"):
        open_checkpoint(tiny_gguf)


@pytest.mark.parametrize("name", ["rope_freqs.weight", "rope_factors_long.weight"])
def test_a_rope_factor_tensor_is_rope_scaling(tmp_path: Path, name: str) -> None:
    weights = tiny.weights(tiny.MISTRAL) | {name: np.ones(16, np.float32)}
    with pytest.raises(UnsupportedError, match=f"{name}: .*rope scaling"):
        open_checkpoint(checkpoints.write_gguf(tmp_path / "x.gguf", tiny.MISTRAL, weights))


def test_keys_that_older_files_leave_out_have_their_meaning(tmp_path: Path) -> None:
    keys = ("attention.key_length", "attention.value_length", "rope.dimension_count", "rope.freq_base")
    spec = opened(tmp_path, {f"llama.{key}": None for key in keys}, tiny.LLAMA).spec
    assert (spec.head_dim, spec.rope_theta) == (16, 10000.0)


@pytest.mark.parametrize("key", ["llama.embedding_length", "llama.block_count", "tokenizer.ggml.tokens"])
def test_a_missing_key_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(SourceError, match=r"x.gguf: .*expected .*, got (nothing|None)"):
        opened(tmp_path, {key: None})


def test_a_key_of_another_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="hidden_size: expected an integer, got 'wide'"):
        opened(tmp_path, {"llama.embedding_length": "wide"})


def test_a_list_of_heads_by_layer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"num_key_value_heads: expected an integer, got \[2, 2, 2\]"):
        opened(tmp_path, {"llama.attention.head_count_kv": [2, 2, 2]})


def test_every_end_of_turn_ends_an_answer(tmp_path: Path) -> None:
    spec = opened(tmp_path, {"tokenizer.ggml.eot_token_id": 7, "tokenizer.ggml.eom_token_id": 2}).spec
    assert spec.eos_token_ids == (2, 7)


def test_the_name_is_the_models_own_in_one_line(tmp_path: Path) -> None:
    assert opened(tmp_path, {"general.name": "A\nmodel\x1b[31m"}).name == "Amodel[31m"


def test_a_nameless_model_is_called_by_its_file(tmp_path: Path) -> None:
    assert opened(tmp_path, {"general.name": None}).name == "x"


@pytest.mark.parametrize("dtype", ["F16", "BF16", "Q8_0", "Q4_0"])
def test_quantized_q_and_k_are_reordered_too(tmp_path: Path, dtype: str) -> None:
    weights = tiny.weights(tiny.MISTRAL)
    checkpoint = open_checkpoint(checkpoints.write_gguf(tmp_path / "x.gguf", tiny.MISTRAL, weights, dtype=dtype))
    for projection in ("q_proj", "k_proj", "v_proj"):
        name = f"model.layers.1.self_attn.{projection}.weight"
        weight = checkpoint.weights[name]
        assert weight.dtype == dtype
        difference = np.abs(weight.rows(0, weight.shape[0]) - weights[name]).max()
        assert difference < 0.1 * np.abs(weights[name]).max()
