"""What GGUF metadata may say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bise_export.errors import SourceError, UnsupportedError
from bise_export.families.config import Config
from bise_export.families.rope import read_rotary
from bise_export.reference import Reference
from bise_export.sources.checkpoint import Checkpoint
from bise_export.sources.open import open_checkpoint
from golden import checkpoints, families, tiny
from golden.make_logits import FAMILY_PROMPTS, LOGITS, PROMPTS


def opened(folder: Path, metadata: dict[str, object], spec: object = tiny.MISTRAL) -> Checkpoint:
    return open_checkpoint(checkpoints.write_gguf(folder / "x.gguf", spec, tiny.weights(spec), metadata=metadata))


@pytest.mark.parametrize(
    "metadata",
    [
        {"llama.rope.scaling.type": "su"},
        {"llama.rope.scaling.yarn_log_multiplier": 0.1},
        {"llama.rope.scaling.attn_factor": 1.5},
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
    with pytest.raises(UnsupportedError, match=r"general.architecture: expected one of llama, .*got 'gemma'"):
        open_checkpoint(tiny_gguf)


@pytest.mark.parametrize("name", ["llama3", "qwen2", "phi3", "phi4_mini", "gemma2"])
def test_every_architecture_gives_transformers_logits(tmp_path: Path, name: str) -> None:
    spec, golden = families.SPECS[name], np.load(LOGITS)
    checkpoint = open_checkpoint(checkpoints.write_gguf(tmp_path / "x.gguf", spec, tiny.weights(spec)))

    # Of all numbers only Gemma 2's scale of queries is not in its files, which llama.cpp knows by the model's size.
    read = replace(checkpoint.spec, attention_scale=spec.attention_scale)
    assert replace(read, rope_scaling=spec.rope_scaling, rms_norm_eps=spec.rms_norm_eps) == spec
    found = Reference(read, checkpoint.weights).logits([PROMPTS[key] for key in FAMILY_PROMPTS])
    for key, logits in zip(FAMILY_PROMPTS, found, strict=True):
        np.testing.assert_allclose(logits, golden[f"{name}/{key}"], rtol=0, atol=2e-5)


@pytest.mark.parametrize(("layers", "scalar"), [(46, 16), (42, 32)])
def test_gemma_2_27b_is_known_by_its_layers(tmp_path: Path, layers: int, scalar: int) -> None:
    spec = replace(families.SPECS["gemma2"], num_layers=layers, full_attention_layers=())
    assert opened(tmp_path, {}, spec).spec.attention_scale == scalar**-0.5


def test_what_a_gemma_2_file_leaves_out_is_as_in_the_family(tmp_path: Path) -> None:
    keys = ("attn_logit_softcapping", "final_logit_softcapping", "attention.sliding_window")
    spec = opened(tmp_path, {f"gemma2.{key}": None for key in keys}, families.SPECS["gemma2"]).spec
    assert (spec.attention_softcap, spec.logit_softcap, spec.sliding_window) == (50, 30, 4096)


@pytest.mark.parametrize(
    ("metadata", "scaling"),
    [
        ({"llama.rope.scaling.factor": 4.0}, {"type": "linear", "factor": 4.0}),
        ({"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}, {"type": "linear", "factor": 4.0}),
        (
            {
                "llama.rope.scaling.type": "yarn",
                "llama.rope.scaling.factor": 4.0,
                "llama.rope.scaling.original_context_length": 64,
            },
            {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
        ),
    ],
)
def test_scaled_rope_is_as_in_a_config(tmp_path: Path, metadata: dict[str, object], scaling: dict[str, object]) -> None:
    values = Config({"rope_scaling": scaling, "rope_theta": 1e6}, Path("config.json"))
    expected = read_rotary(values, tiny.MISTRAL.head_dim, tiny.MISTRAL.trained_context).scaling
    assert opened(tmp_path, metadata).spec.rope_scaling == expected


def test_a_factor_of_no_scaling_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"scaling.factor: expected 1 for scaling of type 'none', got 4"):
        opened(tmp_path, {"llama.rope.scaling.type": "none", "llama.rope.scaling.factor": 4.0})


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"rope_factors_long.weight": (16,)}, "expected .*short.weight and .*long.weight, got only .*long.weight"),
        ({"rope_freqs.weight": (15,)}, "rope_scaling: expected 16 factors, one a pair, got 15"),
        ({"rope_freqs.weight": (4, 4)}, "rope_freqs.weight: expected a list"),
    ],
)
def test_broken_rope_factors_are_refused(tmp_path: Path, tensors: dict[str, tuple[int, ...]], message: str) -> None:
    weights = tiny.weights(tiny.MISTRAL) | {name: np.ones(shape, np.float32) for name, shape in tensors.items()}
    with pytest.raises(SourceError, match=f"x.gguf: {message}"):
        open_checkpoint(checkpoints.write_gguf(tmp_path / "x.gguf", tiny.MISTRAL, weights))


def test_a_part_of_each_head_that_its_family_does_not_rotate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"x.gguf: partial_rotary_factor: expected 1"):
        opened(tmp_path, {"llama.rope.dimension_count": 16})


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
