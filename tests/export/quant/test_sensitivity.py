"""Sensitivities of a tiny model: the loss each matrix has alone, as a whole rounded model shows it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bise_export import contents
from bise_export.agreement import compare
from bise_export.calibration import calibrate
from bise_export.quant.recipes import PROBED, candidates, recipe
from bise_export.quant.rounded import Rounded
from bise_export.quant.sensitivity import choices, importance_of, losses, stored_bytes
from bise_export.reference import Reference
from golden import tiny
from golden.in_memory import weights_of

PROMPTS = [[5, 9, 200, 31, 7], [1, 300, 12], [4] * 40]
READ = [PROMPTS[0], PROMPTS[1], [4] * 12]


@pytest.fixture(params=["llama", "untied"])
def spec(request):
    return (
        tiny.LLAMA if request.param == "llama" else replace(tiny.LLAMA, tied_embeddings=not tiny.LLAMA.tied_embeddings)
    )


def rounded(weights, importance, *matrices):
    found = dict(weights)
    for each in matrices:
        form, rows = PROBED.dividing(each.columns), (each.first_row, each.first_row + each.rows)
        found |= {part: Rounded(found[part], form, importance.get(each.name), *rows) for part in each.parts}
    return found


def test_each_loss_is_that_of_the_model_with_this_matrix_rounded(spec):
    weights, matrices = weights_of(spec), contents.matrices(spec, recipe("mixed", 32, "cpu"))
    squares = calibrate(spec, weights, PROMPTS).mean_squares
    importance = {
        each.name: found
        for each in matrices
        if (found := importance_of(each, squares, tied=spec.tied_embeddings)) is not None
    }
    done = []

    lost = losses(spec, weights, matrices, importance, PROMPTS, done.append)

    assert sum(done) == sum(each.rows * each.columns for each in matrices)
    exact = Reference(spec, weights).logits(READ)

    def alone(logits):
        return compare(zip(READ, exact, logits, strict=True)).mean_kl

    expected = {
        each.name: alone(Reference(spec, rounded(weights, importance, each)).logits(READ))
        for each in matrices
        if each.kind not in ("embedding", "head")
    }
    # Of the prompts' 48 tokens, 46 are of the first piece.
    embeddings, plain = contents.pieces_of(matrices, contents.EMBEDDING), Reference(spec, weights)
    states = Reference(spec, rounded(weights, importance, *embeddings)).embedded(READ)
    lengths = [len(prompt) for prompt in READ]
    for layer in range(spec.num_layers):
        states = plain.layer(layer, states, lengths)
    looked_up = alone(plain.logits_of(states, lengths))
    for each, share in zip(embeddings, (47 / 50, 3 / 50), strict=True):
        expected[each.name] = looked_up * share
    hidden = plain.hidden(READ)
    for each in contents.pieces_of(matrices, contents.EMBEDDING if spec.tied_embeddings else contents.HEAD):
        as_head = alone(Reference(spec, rounded(weights, importance, each)).each_projected(hidden))
        expected[each.name] = expected.get(each.name, 0.0) + as_head
    assert lost == pytest.approx(expected, rel=1e-3)
    assert min(lost.values()) > 0


def test_finer_formats_take_more_and_lose_less():
    spec = tiny.LLAMA
    matrix = contents.matrices(spec, recipe("mixed", 32, "cpu"))[-1]
    assert matrix.kind == "mlp"

    found = choices(matrix, weights_of(spec), None, 0.5, candidates(32, matrix.kind, matrix.columns), 1)

    by_name = {each.format.name: each for each in found}
    ordered = [by_name[f"int{bits} block 32"] for bits in (2, 4, 8)]
    assert [each.size_bytes for each in ordered] == sorted(
        each.size_bytes for each in found if "32" in each.format.name
    )
    assert ordered[0].loss == pytest.approx(0.5)
    assert ordered[0].loss > 8 * ordered[1].loss > 64 * ordered[2].loss


def test_importance_is_of_what_the_columns_are_multiplied_with():
    spec, squares = tiny.LLAMA, {"lm_head": np.ones(1), "model.layers.0.self_attn.q_proj": np.ones(2)}
    embedding, rare, first, *_ = contents.matrices(spec, recipe("mixed", 32, "cpu"))

    assert importance_of(embedding, squares, tied=True) is squares["lm_head"]
    assert importance_of(rare, squares, tied=True) is squares["lm_head"]
    assert importance_of(embedding, squares, tied=False) is None
    assert importance_of(first, squares, tied=True) is squares["model.layers.0.self_attn.q_proj"]


def test_bytes_are_rounded_up_as_the_file_does_it():
    matrix = contents.matrices(tiny.LLAMA, recipe("mixed", 32, "cpu"))[1]
    (form,) = (each for each in candidates(32, matrix.kind, matrix.columns) if each.name == "int4 block 32")

    stored = form.tensors(matrix.rows, matrix.columns)
    assert stored_bytes(matrix, form) == sum(matrix.rows * each.row_bytes for each in stored)
    assert stored_bytes(matrix, form, 4096) % 4096 == 0
