"""A row's logits are the same to the last bit however it is run: alone or in a batch, in one piece or in chunks.

Two exceptions: over a float cache a chunk of a single token is not what the same token is inside a longer chunk, and
where prompts attend in a way of their own, a token of a prompt is not what the same token is in an answer. The daemon's
promise of the same tokens, alone or in a batch, stands on this.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bise_export.pipeline import ExportOptions, export
from bise_export.planning import Bits
from golden import checkpoints, families, tiny

KINDS = [
    ("fp32", "fp32", None),
    ("int8", "fp32", None),
    ("int4", "fp32", None),
    ("int4", "int8", "fused"),
    ("int4", "int8", "float"),
    ("int8", "int8", "float"),
]
LENGTHS = (5, 23, 1, 12, 17, 2, 9, 30)
STEPS = 4
SPECS = tiny.SPECS | families.SPECS
TOKENS = np.random.default_rng(8).integers(0, 320, 24).tolist()


@pytest.fixture(params=KINDS, ids=lambda kind: "-".join(filter(None, kind)))
def bundle(request, exported):
    precision, kv, prompt_attention = request.param
    return lambda name: exported(name, precision=precision, kv=kv, prompt_attention=prompt_attention)


def prompts():
    rng = np.random.default_rng(7)
    return [rng.integers(0, 320, length + STEPS).tolist() for length in LENGTHS]


def decode(runner, first_slot, tokens, lengths):
    """Logits [steps, rows, vocab] of the last tokens of each row, one step each."""
    found = []
    for step in range(STEPS):
        new = [[row[length + step]] for row, length in zip(tokens, lengths, strict=True)]
        pasts = [length + step for length in lengths]
        found.append(runner.step(first_slot, new, pasts, is_prompt=False)[:, 0])
    return np.array(found)


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("batch", [2, 3, 4, 8])
def test_a_row_does_not_feel_its_neighbours(bundle, rows, name, batch):
    spec, tokens = SPECS[name], prompts()[:batch]
    folder, lengths = bundle(name), LENGTHS[:batch]
    alone, together = rows(folder, spec, slots=1), rows(folder, spec, slots=batch)
    for slot, (row, length) in enumerate(zip(tokens, lengths, strict=True)):
        together.step(slot, [row[:length]], [0])

    batched = decode(together, 0, tokens, lengths)

    for slot, (row, length) in enumerate(zip(tokens, lengths, strict=True)):
        alone.step(0, [row[:length]], [0])
        np.testing.assert_array_equal(batched[:, slot], decode(alone, 0, [row], [length])[:, 0])


def chunked(runner, tokens, chunks):
    """Logits [tokens, vocab] of a prompt read in chunks of these sizes."""
    past, found = 0, []
    for chunk in chunks:
        found.append(runner.step(0, [tokens[past : past + chunk]], [past])[0])
        past += chunk
    return np.concatenate(found)


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("chunks", [[8, 8, 8], [5, 19], [22, 2], [2] * 12, [3, 16, 5]], ids=str)
def test_how_a_prompt_is_cut_does_not_matter(bundle, rows, name, chunks):
    spec, folder = SPECS[name], bundle(name)
    whole = chunked(rows(folder, spec, slots=1), TOKENS, [24])

    np.testing.assert_array_equal(chunked(rows(folder, spec, slots=1), TOKENS, chunks), whole)


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize(
    ("kind", "tolerance"),
    [
        (("int4", "int8", "fused"), 0),
        (("int4", "fp32", None), 0.05),
        (("fp32", "fp32", None), 1e-5),
    ],
)
@pytest.mark.parametrize("chunks", [[1] * 24, [23, 1], [1, 16, 7]], ids=str)
def test_a_chunk_of_one_token_is_exact_where_every_token_attends_alike_and_near_elsewhere(
    exported, rows, name, kind, tolerance, chunks
):
    # Over a float cache onnxruntime attends one query by another kernel than several, which sums in another order;
    # where activations are rounded to int8 a last bit can become a step.
    spec, folder = SPECS[name], exported(name, precision=kind[0], kv=kind[1], prompt_attention=kind[2])
    whole = chunked(rows(folder, spec, slots=1), TOKENS, [24])

    found = chunked(rows(folder, spec, slots=1), TOKENS, chunks)

    # A step's size is its block's: single logits may be further off.
    assert np.quantile(np.abs(found - whole), 0.99 if tolerance else 1) <= tolerance


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("chunks", [[1] * 24, [23, 1], [1, 16, 7]], ids=str)
def test_in_a_prompts_own_products_a_chunk_of_one_token_is_exact_where_heads_share_keys(exported, rows, name, chunks):
    # Elsewhere it is a product with a vector, which is summed in another order.
    spec, folder = SPECS[name], exported(name, precision="int4", kv="int8", prompt_attention="float")
    whole = chunked(rows(folder, spec, slots=1), TOKENS, [24])

    found = chunked(rows(folder, spec, slots=1), TOKENS, chunks)

    exact = spec.num_heads > spec.num_kv_heads
    np.testing.assert_allclose(found, whole, rtol=0, atol=0 if exact else 0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ExportOptions(precision="int4"),
        ExportOptions(precision="int4", symmetric=True),
        ExportOptions(precision="int4", vocabulary="int4"),
        ExportOptions(precision="int8"),
        *(ExportOptions(precision="mixed", goal=Bits(bits)) for bits in (2.4, 3, 4.5, 6)),
    ],
    ids=lambda options: str(options.goal or options.precision),
)
def test_neighbours_are_not_felt_where_any_block_size_divides_either(rows, quiet, tmp_path, options):
    # Hidden 256: the vocabulary's blocks are as wide as the recipe wants them.
    spec = replace(tiny.LLAMA, hidden_size=256, intermediate_size=512)
    source = checkpoints.write_huggingface(tmp_path / "checkpoint", spec, tiny.weights(spec))
    export(source, tmp_path / "bundle", replace(options, verify=False), quiet)
    alone, together = (rows(tmp_path / "bundle", spec, slots=4) for _ in range(2))
    prompts = [[3, 4, 5], [7, 8, 9, 10], [11, 12], [13, 14, 15, 16, 17]]
    for runner in (alone, together):
        for slot, prompt in enumerate(prompts):
            runner.step(slot, [prompt], [0])

    found = together.step(0, [[20]] * 4, [len(prompt) for prompt in prompts], is_prompt=False)[:, 0]

    for slot, prompt in enumerate(prompts):
        one = alone.step(slot, [[20]], [len(prompt)], is_prompt=False)[0, 0]
        np.testing.assert_array_equal(found[slot], one)


@pytest.mark.slow
def test_a_slot_reused_by_another_prompt_keeps_nothing_of_the_first(bundle, rows):
    folder = bundle("llama")
    fresh, used = (rows(folder, tiny.LLAMA, slots=1) for _ in range(2))
    used.step(0, [list(range(40))], [0])

    np.testing.assert_array_equal(used.step(0, [[7, 8, 9]], [0]), fresh.step(0, [[7, 8, 9]], [0]))


@pytest.mark.slow
def test_different_prompts_give_different_logits(bundle, rows):
    runner = rows(bundle("llama"), tiny.LLAMA, slots=2)
    for slot, prompt in enumerate(([1, 2, 3], [4, 5, 6])):
        runner.step(slot, [prompt], [0])

    one, other = runner.step(0, [[9], [9]], [3, 3], is_prompt=False)[:, 0]
    assert np.abs(one - other).max() > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECS)
def test_both_ways_to_attend_say_nearly_the_same(exported, rows, name):
    # Of float32 weights, so that no activation is rounded to int8, where a last bit becomes a step.
    spec, folder = SPECS[name], exported(name, precision="fp32", kv="int8", prompt_attention="float")
    alone = rows(folder, spec, slots=1)
    as_prompt = chunked(alone, TOKENS, [8, 16])
    prompt_entries = {key: cache.copy() for key, cache in alone.caches.items()}
    as_answer = [alone.step(0, [[token]], [past], is_prompt=False)[0, 0] for past, token in enumerate(TOKENS)]

    np.testing.assert_allclose(as_answer, as_prompt, rtol=0, atol=0.02)
    for key, cache in alone.caches.items():
        assert np.abs(cache.astype(int) - prompt_entries[key]).max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_guesses_are_verified_as_an_answer_is_made(exported, rows, name):
    spec, folder = SPECS[name], exported(name, precision="int4", kv="int8", prompt_attention="float")
    one_by_one, at_once = rows(folder, spec, slots=1), rows(folder, spec, slots=1)
    for runner in (one_by_one, at_once):
        runner.step(0, [TOKENS[:9]], [0])

    guessed = at_once.step(0, [TOKENS[9:17]], [9], is_prompt=False)[0]

    single = [one_by_one.step(0, [[TOKENS[past]]], [past], is_prompt=False)[0, 0] for past in range(9, 17)]
    np.testing.assert_array_equal(guessed, single)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["int4", "int8"])
@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("slot", [0, 3])
def test_a_chunk_and_rows_in_one_step_do_not_feel_each_other(exported, rows, name, precision, slot):
    spec, folder = SPECS[name], exported(name, precision=precision, kv="int8", prompt_attention="float")
    apart, together = rows(folder, spec, slots=4), rows(folder, spec, slots=4)
    pasts, first = {1: 5, 2: 9}, 1
    for runner in (apart, together):
        for other, past in pasts.items():
            runner.step(other, [TOKENS[:past]], [0])
        runner.step(slot, [TOKENS[:6]], [0])

    for step, size in enumerate((7, 2, 9)):
        start = 6 + sum((7, 2, 9)[:step])
        chunk, tokens = TOKENS[start : start + size], [20 + step, 40 + step]
        behind = [past + step for past in pasts.values()]
        of_chunk, of_rows = together.mixed(slot, chunk, start, first, tokens, behind)

        np.testing.assert_array_equal(of_chunk, apart.step(slot, [chunk], [start])[0])
        in_rows = apart.step(first, [[token] for token in tokens], behind, is_prompt=False)[:, 0]
        np.testing.assert_array_equal(of_rows, in_rows)
    for key, cache in together.caches.items():
        np.testing.assert_array_equal(cache, apart.caches[key])


@pytest.mark.slow
def test_rows_may_span_the_slot_of_a_chunk_that_comes_with_them(exported, rows):
    # A row nobody reads lies between two others, in the chunk's slot; what it writes lies behind the chunk.
    folder = exported("llama", precision="int4", kv="int8", prompt_attention="float")
    apart, together = rows(folder, tiny.LLAMA, slots=3), rows(folder, tiny.LLAMA, slots=3)
    for runner in (apart, together):
        for slot in (0, 2):
            runner.step(slot, [TOKENS[:5]], [0])

    of_chunk, of_rows = together.mixed(1, TOKENS[:8], 0, 0, [20, 0, 40], [5, 8, 5])

    np.testing.assert_array_equal(of_chunk, apart.step(1, [TOKENS[:8]], [0])[0])
    for slot, token in ((0, 20), (2, 40)):
        np.testing.assert_array_equal(of_rows[slot], apart.step(slot, [[token]], [5], is_prompt=False)[0, 0])
    whole, others = together.step(1, [TOKENS[8:]], [8])[0], apart.step(1, [TOKENS[8:]], [8])[0]
    np.testing.assert_array_equal(whole, others)
