"""What published checkpoints write in config.json, and what becomes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bise_export.errors import SourceError, UnsupportedError
from bise_export.families.config import Config
from bise_export.families.registry import build_spec
from bise_export.spec import ModelSpec


def shape(
    model_type: str, hidden: int, ffn: int, layers: int, heads: int, kv_heads: int, vocabulary: int, context: int
) -> dict[str, Any]:
    return {
        "model_type": model_type,
        "hidden_size": hidden,
        "intermediate_size": ffn,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocabulary,
        "max_position_embeddings": context,
    }


MISTRAL_7B_V03 = shape("mistral", 4096, 14336, 32, 32, 8, 32768, 32768) | {"rope_theta": 1e6, "sliding_window": None}
NEMO = shape("mistral", 5120, 14336, 40, 32, 8, 131072, 131072) | {"head_dim": 128, "sliding_window": None}
MINISTRAL_8B = shape("mistral", 4096, 12288, 36, 32, 8, 131072, 32768) | {"sliding_window": 32768, "head_dim": 128}
SMALL_3 = shape("mistral", 5120, 32768, 40, 32, 8, 131072, 131072) | {"head_dim": 128, "sliding_window": None}
SMALL_31 = {
    "architectures": ["Mistral3ForConditionalGeneration"],
    "model_type": "mistral3",
    "image_token_index": 10,
    "spatial_merge_size": 2,
    "text_config": SMALL_3 | {"hidden_act": "silu", "rope_theta": 1e9},
    "vision_config": {"model_type": "pixtral", "hidden_size": 1024},
    "vision_feature_layer": -1,
}
LLAMA_33_70B = shape("llama", 8192, 28672, 80, 64, 8, 128256, 131072) | {
    "attention_bias": False,
    "mlp_bias": False,
    "bos_token_id": 128000,
    "eos_token_id": [128001, 128008, 128009],
    "pretraining_tp": 1,
    "rope_theta": 500000.0,
    "rope_scaling": {
        "factor": 8.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
}
QWEN_25_7B = shape("qwen2", 3584, 18944, 28, 28, 4, 152064, 32768) | {
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "max_window_layers": 28,
    "rope_theta": 1000000.0,
    "sliding_window": 131072,
    "use_sliding_window": False,
}
PHI_4 = shape("phi3", 5120, 17920, 40, 40, 10, 100352, 16384) | {
    "bos_token_id": 100257,
    "eos_token_id": 100265,
    "rope_scaling": None,
    "rope_theta": 250000,
    "sliding_window": None,
    "original_max_position_embeddings": 16384,
}
PHI_4_MINI = shape("phi3", 3072, 8192, 32, 24, 8, 200064, 131072) | {
    "bos_token_id": 199999,
    "eos_token_id": 199999,
    "full_attn_mod": 1,
    "interpolate_factor": 1,
    "lm_head_bias": False,
    "original_max_position_embeddings": 4096,
    "partial_rotary_factor": 0.75,
    "rope_scaling": {"long_factor": [2.0] * 48, "short_factor": [1.0] * 48, "type": "longrope"},
    "sliding_window": 262144,
    "tie_word_embeddings": True,
}
GEMMA_2_9B = shape("gemma2", 3584, 14336, 42, 16, 8, 256000, 8192) | {
    "attn_logit_softcapping": 50.0,
    "bos_token_id": 2,
    "cache_implementation": "hybrid",
    "eos_token_id": [1, 107],
    "final_logit_softcapping": 30.0,
    "head_dim": 256,
    "hidden_act": "gelu_pytorch_tanh",
    "hidden_activation": "gelu_pytorch_tanh",
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "sliding_window_size": 4096,
}


def spec_of(values: dict[str, Any]) -> ModelSpec:
    return build_spec(Config(values, Path("config.json")))


@pytest.mark.parametrize(
    ("config", "heads_by_dim", "window"),
    [(MISTRAL_7B_V03, 4096, None), (NEMO, 4096, None), (MINISTRAL_8B, 4096, 32768), (SMALL_31, 4096, None)],
)
def test_mistrals(config: dict[str, Any], heads_by_dim: int, window: int | None) -> None:
    spec = spec_of(config)
    assert (spec.family, spec.q_size, spec.sliding_window) == ("mistral", heads_by_dim, window)
    assert (spec.bos_token_id, spec.eos_token_ids, spec.tied_embeddings) == (1, (2,), False)


def test_small_31_is_its_decoder_with_the_tokens_that_generation_goes_by() -> None:
    spec = spec_of(SMALL_31 | {"eos_token_id": [2, 7]})
    assert (spec.rope_theta, spec.eos_token_ids, spec.trained_context) == (1e9, (2, 7), 131072)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"text_config": None}, SourceError, "text_config: expected the decoder's config"),
        ({"text_config": SMALL_3 | {"model_type": "ministral3"}}, UnsupportedError, "text_config: .*'ministral3'"),
    ],
)
def test_a_decoder_that_is_not_there_or_not_known_is_refused(
    change: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        spec_of(SMALL_31 | change)


def test_llama_33() -> None:
    spec = spec_of(LLAMA_33_70B)
    assert (spec.head_dim, spec.biased, spec.eos_token_ids) == (128, (), (128001, 128008, 128009))
    assert (spec.rope_scaling.divisors[0], spec.rope_scaling.divisors[-1]) == (1, 8)


@pytest.mark.parametrize(
    ("keys", "biased"),
    [
        ({"attention_bias": True}, "q_proj k_proj v_proj o_proj"),
        ({"mlp_bias": True}, "gate_proj up_proj down_proj"),
    ],
)
def test_a_llama_with_biases(keys: dict[str, Any], biased: str) -> None:
    assert [name.split(".")[1] for name in spec_of(LLAMA_33_70B | keys).biased] == biased.split()


def test_qwen_25() -> None:
    spec = spec_of(QWEN_25_7B)
    assert spec.biased == ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
    assert (spec.sliding_window, spec.full_attention_layers) == (None, ())


def test_qwen_25_with_a_window_has_it_in_its_last_layers() -> None:
    spec = spec_of(QWEN_25_7B | {"use_sliding_window": True, "max_window_layers": 26})
    assert (spec.sliding_window, spec.full_attention_layers) == (131072, tuple(range(26)))
    types = ["sliding_attention"] * 27 + ["full_attention"]
    spec = spec_of(QWEN_25_7B | {"use_sliding_window": True, "layer_types": types})
    assert spec.full_attention_layers == (27,)


def test_phi_4() -> None:
    spec = spec_of(PHI_4)
    assert (spec.rotary_size, spec.rope_scaling.divisors, spec.sliding_window) == (128, (), None)


def test_phi_4_mini_rotates_a_part_and_has_two_sets_of_factors() -> None:
    spec = spec_of(PHI_4_MINI)
    assert (spec.head_dim, spec.rotary_size, spec.rope_scaling.short_context) == (128, 96, 4096)
    assert spec.for_context(4096).rope_scaling.divisors == (1.0,) * 48
    assert spec.for_context(32768).rope_scaling.divisors == (2.0,) * 48


def test_gemma_2() -> None:
    spec = spec_of(GEMMA_2_9B)
    assert spec.full_attention_layers == tuple(range(1, 42, 2))
    assert (spec.activation, spec.norm_placement, spec.tied_embeddings) == ("gelu_tanh", "around", True)
    assert (spec.attention_softcap, spec.logit_softcap, spec.attention_scale) == (50, 30, 1 / 16)
    assert spec.embedding_scale == 3584**0.5


def test_a_gemma_2_that_writes_nothing_is_as_transformers_reads_it() -> None:
    written = {key: value for key, value in GEMMA_2_9B.items() if key in shape("", 0, 0, 0, 0, 0, 0, 0)}
    assert spec_of(written | {"eos_token_id": [1, 107]}) == spec_of(GEMMA_2_9B)


def test_a_gemma_2_without_caps() -> None:
    spec = spec_of(GEMMA_2_9B | {"attn_logit_softcapping": None, "final_logit_softcapping": None})
    assert (spec.attention_softcap, spec.logit_softcap) == (None, None)


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        (GEMMA_2_9B | {"hidden_activation": "relu"}, UnsupportedError, "hidden_activation = 'relu'"),
        (GEMMA_2_9B | {"attn_logit_softcapping": 0}, SourceError, "attn_logit_softcapping: expected more than 0"),
        (GEMMA_2_9B | {"layer_types": ["full_attention"]}, SourceError, "layer_types: expected 42 types"),
        (GEMMA_2_9B | {"use_bidirectional_attention": True}, UnsupportedError, "what comes later"),
        (NEMO | {"attention_bias": True}, UnsupportedError, "biases in the attention"),
        (NEMO | {"layer_types": ["sliding_attention"] * 40}, SourceError, "sliding_window: expected a number"),
        (
            MINISTRAL_8B | {"layer_types": ["sliding_attention", "full_attention"] * 18},
            UnsupportedError,
            "attention that differs by layer",
        ),
        (NEMO | {"partial_rotary_factor": 0.5}, UnsupportedError, "64 of 128 channels"),
        (PHI_4_MINI | {"partial_rotary_factor": 0.8}, SourceError, "short_factor: expected a list of 51"),
    ],
)
def test_what_a_family_does_not_have_is_refused(config: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        spec_of(config)
