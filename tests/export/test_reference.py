"""The numpy reference against golden logits of transformers, and against itself run in smaller pieces."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bise_export.errors import ExportError
from bise_export.reference import Reference, rotary_tables
from golden import tiny
from golden.in_memory import InMemory, weights_of
from golden.make_logits import LOGITS, PROMPTS


@pytest.fixture(params=sorted(tiny.SPECS))
def name(request):
    return request.param


def test_agrees_with_transformers(name):
    golden = np.load(LOGITS)
    spec = tiny.SPECS[name]

    logits = Reference(spec, weights_of(spec)).logits(list(PROMPTS.values()))

    for key, ours in zip(PROMPTS, logits, strict=True):
        theirs = golden[f"{name}/{key}"]
        assert theirs.std() > 0.5  # so that the tolerance below means something
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-5)


def test_the_sliding_window_changes_the_logits_only_after_its_length():
    full, sliding = (
        Reference(spec, weights_of(spec)).logits([PROMPTS["long"]])[0] for spec in (tiny.MISTRAL, tiny.SLIDING)
    )

    window = tiny.SLIDING.sliding_window
    np.testing.assert_array_equal(full[:window], sliding[:window])
    assert np.abs(full[window:] - sliding[window:]).max(axis=1).min() > 1e-3


def test_small_chunks_give_the_same_logits(name):
    spec = tiny.SPECS[name]
    prompts = list(PROMPTS.values())

    whole = Reference(spec, weights_of(spec)).logits(prompts)
    pieces = list(Reference(spec, weights_of(spec), chunk_bytes=1000).each_logits(prompts, logits_bytes=1))

    for one, other in zip(whole, pieces, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)


def test_no_more_rows_are_read_than_a_chunk_holds():
    spec, chunk_bytes = tiny.LLAMA, 2048
    asked = {}

    class Metered(InMemory):
        def rows(self, start, stop):
            asked[id(self)] = max(asked.get(id(self), 0), (stop - start) * self.values[0].nbytes)
            return super().rows(start, stop)

    weights = {key: Metered(values) for key, values in tiny.weights(spec).items()}
    Reference(spec, weights, chunk_bytes=chunk_bytes).logits([[1, 2, 3]])

    assert len(asked) == len(weights)
    assert max(asked.values()) <= chunk_bytes


def test_prompts_do_not_see_each_other(name):
    spec = tiny.SPECS[name]
    reference = Reference(spec, weights_of(spec))

    together = reference.logits(list(PROMPTS.values()))
    alone = [reference.logits([prompt])[0] for prompt in PROMPTS.values()]

    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)


def test_attention_is_causal(name):
    spec = tiny.SPECS[name]
    reference = Reference(spec, weights_of(spec))
    prompt = PROMPTS["long"]

    whole, start = reference.logits([prompt, prompt[:10]])

    np.testing.assert_allclose(whole[:10], start, rtol=0, atol=1e-5)


def test_the_cache_sees_every_layer_of_every_prompt_and_is_what_attention_reads():
    spec, seen = tiny.LLAMA, []

    def zeroed(layer, keys, values):
        seen.append((layer, keys.shape, values.shape))
        return keys, np.zeros_like(values)

    prompts = [[1, 2, 3], [4, 5]]
    with_zero_values = Reference(spec, weights_of(spec), cache=zeroed).logits(prompts)

    shapes = [(len(prompt), spec.num_kv_heads, spec.head_dim) for prompt in prompts]
    assert seen == [(layer, shape, shape) for layer in range(spec.num_layers) for shape in shapes]
    # With all values zero, attention adds nothing and position no longer matters.
    (repeated,) = Reference(spec, weights_of(spec), cache=zeroed).logits([[3, 2, 3]])
    np.testing.assert_allclose(repeated[0], repeated[2], rtol=0, atol=1e-5)
    np.testing.assert_allclose(repeated[0], with_zero_values[0][2], rtol=0, atol=1e-5)


def test_cached_keys_are_rotated_and_keep_their_length():
    spec, keys_by_layer = tiny.LLAMA, {}

    def observing(layer, keys, values):
        keys_by_layer[layer] = keys
        return keys, values

    Reference(spec, weights_of(spec), cache=observing).logits([[7, 7, 7, 7]])

    keys = keys_by_layer[0]  # the same token four times: in the first layer, the same key but for its rotation
    np.testing.assert_allclose(np.linalg.norm(keys, axis=-1), np.linalg.norm(keys[:1], axis=-1).repeat(4, 0), rtol=1e-5)
    cos, sin = rotary_tables(spec, 4)
    half = spec.head_dim // 2
    first, second = keys[0, :, :half], keys[0, :, half:]
    np.testing.assert_allclose(keys[3, :, :half], first * cos[3] - second * sin[3], atol=1e-5)
    np.testing.assert_allclose(keys[3, :, half:], second * cos[3] + first * sin[3], atol=1e-5)


def test_far_positions_keep_their_precision():
    cos, _ = rotary_tables(replace(tiny.LLAMA, trained_context=200_000), 131_072)

    assert cos.dtype == np.float32
    assert cos[131_071, 0] == np.float32(np.cos(131_071.0))


@pytest.mark.parametrize("prompt", [[], [-1], [320]])
def test_a_prompt_out_of_bounds_is_refused(prompt):
    with pytest.raises(ExportError, match="prompt 1: expected one or more ids from 0 to 319"):
        Reference(tiny.LLAMA, weights_of(tiny.LLAMA)).logits([[1], prompt])


def test_no_prompts_give_no_logits():
    assert Reference(tiny.LLAMA, weights_of(tiny.LLAMA)).logits([]) == []


def test_a_missing_weight_is_refused():
    weights = weights_of(tiny.LLAMA)
    del weights["model.layers.1.mlp.up_proj.weight"]

    with pytest.raises(ExportError, match=r"model\.layers\.1\.mlp\.up_proj\.weight: .* got None"):
        Reference(tiny.LLAMA, weights)


def test_a_weight_of_another_shape_is_refused():
    weights = weights_of(tiny.LLAMA) | {"model.norm.weight": InMemory(np.ones(63, np.float32))}

    with pytest.raises(ExportError, match=r"model\.norm\.weight: .* \[64\], got \[63\]"):
        Reference(tiny.LLAMA, weights)
