"""From a config to a spec, by family; defaults are those of transformers' config classes."""

from __future__ import annotations

from pathlib import Path

import pytest

from bise_export.errors import SourceError, UnsupportedError
from bise_export.families.config import Config
from bise_export.families.registry import FAMILIES, build_spec
from bise_export.spec import ModelSpec

LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 320,
}
MISTRAL = LLAMA | {"model_type": "mistral", "hidden_size": 128, "num_attention_heads": 8}
# What Mistral Small 3 writes: head_dim * num_attention_heads is not hidden_size.
MISTRAL_SMALL_3 = {
    "architectures": ["MistralForCausalLM"],
    "model_type": "mistral",
    "hidden_size": 5120,
    "intermediate_size": 32768,
    "num_hidden_layers": 40,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 131072,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-05,
    "rope_theta": 100000000.0,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "attention_dropout": 0.0,
    "torch_dtype": "bfloat16",
    "use_cache": True,
}


def spec_of(values: dict[str, object]) -> ModelSpec:
    return build_spec(Config(values, Path("config.json")))


def test_llama_fills_in_its_own_defaults() -> None:
    assert spec_of(LLAMA) == ModelSpec(
        family="llama",
        hidden_size=64,
        intermediate_size=128,
        num_layers=2,
        num_heads=4,
        num_kv_heads=4,
        head_dim=16,
        vocab_size=320,
        trained_context=2048,
        rms_norm_eps=1e-6,
        rope_theta=10000.0,
        tied_embeddings=False,
        bos_token_id=1,
        eos_token_ids=(2,),
        sliding_window=None,
    )


def test_mistral_fills_in_its_own_defaults() -> None:
    spec = spec_of(MISTRAL)
    assert (spec.family, spec.num_kv_heads, spec.trained_context, spec.sliding_window) == ("mistral", 8, 131072, 4096)


def test_mistral_small_3() -> None:
    spec = spec_of(MISTRAL_SMALL_3)
    assert (spec.hidden_size, spec.q_size, spec.kv_size) == (5120, 4096, 1024)
    assert (spec.rope_theta, spec.sliding_window, spec.tied_embeddings) == (1e8, None, False)


@pytest.mark.parametrize("window", [None, 1024])
def test_a_written_sliding_window_is_kept(window: int | None) -> None:
    assert spec_of(MISTRAL | {"sliding_window": window}).sliding_window == window


def test_llama_has_no_sliding_window() -> None:
    assert spec_of(LLAMA | {"sliding_window": 1024}).sliding_window is None


@pytest.mark.parametrize("eos", [2, [2, 7], []])
def test_eos_may_be_one_id_or_many(eos: object) -> None:
    assert spec_of(LLAMA | {"eos_token_id": eos}).eos_token_ids == tuple(eos if isinstance(eos, list) else [eos])


def test_special_tokens_written_as_null_are_none() -> None:
    spec = spec_of(LLAMA | {"bos_token_id": None, "eos_token_id": None})
    assert (spec.bos_token_id, spec.eos_token_ids) == (None, ())


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_theta": 5e5},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
        {"rope_theta": 5e5, "rope_scaling": None},
        {"rope_theta": 5e5, "rope_scaling": {"type": "default"}},
    ],
)
def test_unscaled_rope_is_read_in_old_and_new_form(rope: dict[str, object]) -> None:
    assert spec_of(LLAMA | rope).rope_theta == 5e5


@pytest.mark.parametrize(
    ("quirk", "meaning"),
    [
        ({"hidden_act": "gelu"}, "an activation other than SiLU"),
        ({"quantization_config": {"quant_method": "gptq"}}, "already quantized"),
        ({"num_local_experts": 8}, "a mixture of experts"),
        ({"vision_config": {"depth": 2}}, "image input"),
        ({"layer_types": ["full_attention", "chunked_attention"]}, "a kind of attention"),
        ({"use_bidirectional_attention": True}, "attention to what comes later"),
        ({"partial_rotary_factor": 0.5}, "expected 1, .* a part of each head: 8 of 16 channels"),
        ({"rope_parameters": {"full_attention": {"rope_theta": 1.0}}}, "differs by layer"),
    ],
)
def test_a_quirk_is_refused_by_name(quirk: dict[str, object], meaning: str) -> None:
    (key,) = quirk
    with pytest.raises(UnsupportedError, match=rf"config.json: {key}.*{meaning}"):
        spec_of(LLAMA | quirk)


@pytest.mark.parametrize("neutral", [{"attention_bias": False}, {"hidden_act": "silu"}, {"num_local_experts": None}])
def test_a_key_that_asks_for_nothing_changes_nothing(neutral: dict[str, object]) -> None:
    assert spec_of(LLAMA | neutral) == spec_of(LLAMA)


@pytest.mark.parametrize(
    "named",
    [
        {"model_type": "qwen9"},
        {"model_type": "mistral9", "architectures": ["MistralForCausalLM"]},
        {"model_type": None, "architectures": ["GPT2LMHeadModel"]},
        {"model_type": None},
        {"model_type": 3},
    ],
)
def test_an_unknown_family_is_refused_with_those_known(named: dict[str, object]) -> None:
    with pytest.raises(
        UnsupportedError, match=r"config.json: expected a model of the families .*llama, .*mistral, .*got"
    ):
        spec_of(LLAMA | named)


def test_a_config_without_model_type_goes_by_its_architecture() -> None:
    assert spec_of(LLAMA | {"model_type": None, "architectures": ["LlamaForCausalLM"]}) == spec_of(LLAMA)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"hidden_size": None}, "hidden_size: expected an integer, got None"),
        ({"hidden_size": "64"}, "hidden_size: expected an integer, got '64'"),
        ({"hidden_size": 64.5}, "hidden_size: expected an integer, got 64.5"),
        ({"num_hidden_layers": True}, "num_hidden_layers: expected an integer, got True"),
        ({"hidden_size": -64}, "hidden_size: expected 1 to"),
        ({"vocab_size": 1 << 40}, "vocab_size: expected 1 to"),
        ({"num_attention_heads": 0}, "head_dim: expected it written"),
        ({"num_attention_heads": 7}, "head_dim: expected it written.*got 64 and 7"),
        ({"num_key_value_heads": 3}, "num_kv_heads: expected a divisor"),
        ({"rms_norm_eps": "small"}, "rms_norm_eps: expected a number"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps: expected a number"),
        ({"rope_theta": float("inf")}, "rope_theta: expected a number"),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings: expected true or false, got 1"),
        ({"eos_token_id": 320}, "special token id: expected 0 to 319, got 320"),
        ({"eos_token_id": ["2"]}, "eos_token_id: expected a token id or a list"),
        ({"eos_token_id": [2] * 1000}, "eos_token_id: expected a token id or a list of at most 64"),
        ({"rope_scaling": "yarn"}, "rope_scaling: expected an object, got 'yarn'"),
    ],
)
def test_a_wrong_value_is_named_with_its_file(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(SourceError, match=rf"^config.json: {message}"):
        spec_of(LLAMA | wrong)


def test_a_missing_value_is_named() -> None:
    with pytest.raises(SourceError, match="hidden_size: expected an integer, got nothing"):
        spec_of({key: value for key, value in LLAMA.items() if key != "hidden_size"})


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_every_family_is_reached_by_every_name(name: str) -> None:
    key = {"architectures": [name], "model_type": None} if name.endswith("ForCausalLM") else {"model_type": name}
    values = {
        k: v
        for k, v in (MISTRAL | {"num_key_value_heads": 8, "eos_token_id": 2, "text_config": MISTRAL} | key).items()
        if v is not None
    }
    assert spec_of(values).family == FAMILIES[name].name


@pytest.mark.parametrize("key", ["num_hidden_layers", "hidden_size", "head_dim", "max_position_embeddings"])
@pytest.mark.parametrize("value", [1 << 40, 10**400, -1])
@pytest.mark.parametrize(
    "scaling",
    [None, {"type": "linear", "factor": 2.0}, {"type": "yarn", "factor": 2.0}],
    ids=["plain", "linear", "yarn"],
)
def test_sizes_are_checked_before_anything_is_made_of_them(key: str, value: int, scaling: object) -> None:
    with pytest.raises(SourceError, match="expected"):
        spec_of(LLAMA | {"head_dim": 16, "rope_scaling": scaling, key: value})


@pytest.mark.parametrize("key", ["beta_fast", "beta_slow", "factor"])
@pytest.mark.parametrize("value", [5e-324, 1e299, 10**200])
def test_numbers_of_no_model_are_refused(key: str, value: float) -> None:
    with pytest.raises(SourceError, match=f"{key}: expected"):
        spec_of(LLAMA | {"rope_scaling": {"type": "yarn", "factor": 2.0, key: value}})
