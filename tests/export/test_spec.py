"""What a spec refuses, and what it says of its weights."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bise_export.errors import SourceError, UnsupportedError
from bise_export.rope_scaling import RopeScaling
from golden import tiny


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"sliding_window": 0}, "sliding_window: expected at least 1 token"),
        ({"full_attention_layers": (3,)}, "full_attention_layers: expected 0 to 2, got 3"),
        ({"rotary_dim": 32}, "rotary_dim: expected 1 to head_dim 16"),
        ({"rope_scaling": RopeScaling((2.0,) * 7)}, "rope_scaling: expected 8 factors, one a pair, got 7"),
        ({"biased": ("self_attn.q",)}, "biased: expected one of .*self_attn.q_proj.*got 'self_attn.q'"),
        ({"activation": "relu"}, "activation: expected one of silu, gelu_tanh, got 'relu'"),
        ({"norm_placement": "after"}, "norm_placement: expected one of before, around, got 'after'"),
        ({"embedding_scale": 0.0}, "embedding_scale: expected a positive number"),
        ({"attention_softcap": -1.0}, "attention_softcap: expected a positive number"),
        ({"attention_scale": float("nan")}, "attention_scale: expected a positive number"),
    ],
)
def test_a_wrong_value_is_named(wrong, message):
    with pytest.raises(SourceError, match=message):
        replace(tiny.LLAMA, **wrong)


def test_a_part_of_a_head_that_no_kernel_rotates_is_refused():
    with pytest.raises(UnsupportedError, match="expected a multiple of 16 channels of each head, got 8"):
        replace(tiny.LLAMA, rotary_dim=8)


def test_a_layer_may_see_everything_in_spite_of_the_window():
    spec = replace(tiny.SLIDING, full_attention_layers=(1,))
    assert [spec.window(layer) for layer in range(3)] == [8, None, 8]


def test_biases_and_norms_around_are_weights_too():
    plain, more = (
        set(spec.weight_shapes())
        for spec in (tiny.LLAMA, replace(tiny.LLAMA, biased=("self_attn.q_proj",), norm_placement="around"))
    )
    assert plain < more
    assert {name.split(".", 3)[-1] for name in more - plain} == {
        "self_attn.q_proj.bias",
        "pre_feedforward_layernorm.weight",
        "post_feedforward_layernorm.weight",
    }
