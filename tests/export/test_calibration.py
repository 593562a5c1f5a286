"""KV scales: bounds that hold at any position, and the rounding they stand for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from bise_export import calibration
from bise_export.calibration import calibrate, calibrating_bytes, int8_cache
from bise_export.errors import ExportError
from bise_export.quant.kv import LayerScales
from bise_export.reference import Reference
from golden import tiny
from golden.in_memory import InMemory, weights_of

SPEC = tiny.LLAMA
PROMPTS = [[5, 9, 200, 31, 7], [1, 300, 12]]


def recorded(prompts):
    """Keys and values by layer, as attention sees them."""
    seen = {layer: [] for layer in range(SPEC.num_layers)}

    def record(layer, keys, values):
        seen[layer].append((keys, values))
        return keys, values

    Reference(SPEC, weights_of(SPEC), cache=record).hidden(prompts)
    return seen


def test_every_layer_gets_positive_scales_of_the_kernels_shape():
    scales = calibrate(SPEC, weights_of(SPEC), PROMPTS).scales

    assert len(scales) == SPEC.num_layers
    for layer in scales:
        for each in (layer.key, layer.value):
            assert each.shape == (1, SPEC.num_kv_heads, 1, SPEC.head_dim)
            assert each.dtype == np.float32
            assert (each > 0).all()


def test_the_observed_values_fit_with_a_tenth_to_spare():
    scales = calibrate(SPEC, weights_of(SPEC), PROMPTS).scales

    for layer, seen in recorded(PROMPTS).items():
        values = np.abs(np.concatenate([values for _, values in seen])).max(0)
        np.testing.assert_allclose(scales[layer].value[0, :, 0] * 127, values * 1.1, rtol=1e-5)


def test_key_scales_are_the_same_for_both_channels_of_a_rotating_pair():
    half = SPEC.head_dim // 2
    for layer in calibrate(SPEC, weights_of(SPEC), PROMPTS).scales:
        np.testing.assert_array_equal(layer.key[..., :half], layer.key[..., half:])


def test_keys_seen_at_the_start_fit_at_any_later_position():
    # The first layer's keys depend on the token alone but for their rotation: the same tokens, 180 positions further.
    tokens = [5, 9, 200, 31, 7]
    scales = calibrate(SPEC, weights_of(SPEC), [tokens]).scales
    ((later, _),) = recorded([tokens * 37])[0]

    assert np.abs(later / scales[0].key[:, :, 0]).max() <= 127 / 1.1 + 1e-3


def test_a_large_model_reads_the_first_tokens_of_each_prompt_and_takes_a_larger_margin(monkeypatch):
    prompts = [list(range(100)), [7, 8]]
    whole = calibrate(SPEC, weights_of(SPEC), [list(range(48)), [7, 8]]).scales
    size_bytes = calibrating_bytes(SPEC, prompts)

    monkeypatch.setattr(calibration, "_LARGE_PARAMETERS", 1000)

    for one, other in zip(calibrate(SPEC, weights_of(SPEC), prompts).scales, whole, strict=True):
        np.testing.assert_allclose(one.key * (1.1 / 1.25), other.key, rtol=1e-5)
        np.testing.assert_allclose(one.value * (1.1 / 1.25), other.value, rtol=1e-5)
    assert calibrating_bytes(SPEC, prompts) < size_bytes


def test_the_order_of_prompts_does_not_matter():
    one, other = (calibrate(SPEC, weights_of(SPEC), prompts).scales for prompts in (PROMPTS, PROMPTS[::-1]))

    for first, second in zip(one, other, strict=True):
        np.testing.assert_allclose(first.key, second.key, rtol=1e-5)
        np.testing.assert_allclose(first.value, second.value, rtol=1e-5)


def test_a_channel_that_is_always_zero_gets_a_usable_scale():
    values = tiny.weights(SPEC)
    values["model.layers.0.self_attn.v_proj.weight"][3] = 0
    weights = {name: InMemory(array) for name, array in values.items()}

    scales = calibrate(SPEC, weights, PROMPTS).scales

    assert scales[0].value[0, 0, 0, 3] == 1
    assert np.isfinite(Reference(SPEC, weights, cache=int8_cache(scales)).logits(PROMPTS)[0]).all()


def test_int8_keys_and_values_cost_little():
    scales = calibrate(SPEC, weights_of(SPEC), PROMPTS).scales
    exact = Reference(SPEC, weights_of(SPEC)).logits(PROMPTS)
    rounded = Reference(SPEC, weights_of(SPEC), cache=int8_cache(scales)).logits(PROMPTS)

    difference = max(np.abs(one - other).max() for one, other in zip(exact, rounded, strict=True))
    assert 0 < difference < 0.05 * exact[0].std()


@given(
    arrays.arrays(np.float32, (3, 2, 8), elements=st.floats(-3, 3, width=32)),
    arrays.arrays(np.float32, (1, 2, 1, 8), elements=st.floats(0.0078125, 1, width=32)),
)
def test_rounding_stays_within_half_a_step_or_at_the_clamp(x, scale):
    keys, values = int8_cache([LayerScales(key=scale, value=scale)])(0, x, -x)

    step = scale[:, :, 0]
    inside = (x <= 127 * step) & (x >= -128 * step)
    assert (np.abs(keys - x)[inside] <= (0.5001 * np.broadcast_to(step, x.shape))[inside]).all()
    assert (keys <= 127 * step).all()
    assert (keys >= -128 * step).all()
    levels = values / step
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-3)


def test_mean_squares_are_of_what_each_projection_is_given():
    found = calibrate(SPEC, weights_of(SPEC), PROMPTS).mean_squares
    hidden = np.concatenate(Reference(SPEC, weights_of(SPEC)).hidden(PROMPTS))

    np.testing.assert_allclose(found["lm_head"], np.square(hidden).mean(0), rtol=1e-5)
    for layer in range(SPEC.num_layers):
        prefix = f"model.layers.{layer}."
        assert found[f"{prefix}mlp.down_proj"].shape == (SPEC.intermediate_size,)
        np.testing.assert_array_equal(found[f"{prefix}self_attn.q_proj"], found[f"{prefix}self_attn.v_proj"])


def test_no_prompts_are_refused():
    with pytest.raises(ExportError, match="expected one or more prompts"):
        calibrate(SPEC, weights_of(SPEC), [])


def test_values_that_overflow_are_refused_with_their_layer():
    values = tiny.weights(SPEC)
    values["model.layers.1.self_attn.v_proj.weight"][:] = np.inf
    weights = {name: InMemory(array) for name, array in values.items()}

    with np.errstate(invalid="ignore"), pytest.raises(ExportError, match="layer 1: expected finite keys and values"):
        calibrate(SPEC, weights, PROMPTS)
