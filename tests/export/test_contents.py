"""What a bundle holds: vocabularies cut where a plan may choose, and joined where it chose the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bise_export.contents import EMBEDDING, HEAD, matrices, pieces_of
from bise_export.quant.recipes import candidates, recipe
from golden import tiny
from golden.in_memory import weights_of

SPEC = replace(tiny.MISTRAL, vocab_size=4096)
MIXED = recipe("mixed", 32, "cpu")
COARSE, FINE, *_ = candidates(32, "embedding", SPEC.hidden_size)


def pieces(name, planned=None):
    found = matrices(SPEC, replace(MIXED, planned=planned or {}))
    return [(each.name, each.first_row, each.rows, each.format) for each in pieces_of(found, name)]


@pytest.mark.parametrize("name", [EMBEDDING, HEAD])
def test_a_vocabulary_is_cut_where_ids_become_rare(name):
    form = MIXED.embedding.dividing(SPEC.hidden_size)

    assert pieces(name) == [
        (name, 0, 256, form),
        (f"{name}.rows_256", 256, 256, form),
        (f"{name}.rows_512", 512, 512, form),
        (f"{name}.rows_1024", 1024, 1024, form),
        (f"{name}.rows_2048", 2048, 2048, form),
    ]


def test_neighbours_of_one_format_are_one_matrix():
    planned = {name: COARSE for name, *_ in pieces(HEAD)} | {HEAD: FINE, f"{HEAD}.rows_256": FINE}

    assert pieces(HEAD, planned) == [(HEAD, 0, 512, FINE), (f"{HEAD}.rows_512", 512, 3584, COARSE)]
    assert pieces(HEAD, dict.fromkeys(planned, FINE)) == [(HEAD, 0, 4096, FINE)]


@pytest.mark.parametrize(
    ("precision", "vocabulary", "rows"),
    [("int4", None, [512, 3584]), ("int4", "int8", [4096]), ("int8", None, [4096]), ("fp32", None, [4096])],
)
def test_without_a_plan_only_int4_is_graded(precision, vocabulary, rows):
    found = matrices(SPEC, recipe(precision, 32, "cpu", vocabulary=vocabulary))

    for name in (EMBEDDING, HEAD):
        assert [each.rows for each in pieces_of(found, name)] == rows


def test_a_small_vocabulary_has_fewer_pieces():
    found = matrices(replace(SPEC, vocab_size=100), MIXED)

    assert [each.rows for each in pieces_of(found, HEAD)] == [100]


def test_a_piece_is_read_from_its_rows_of_the_checkpoint():
    weights = weights_of(SPEC)
    whole = weights["lm_head.weight"].rows(0, 4096)

    for each in pieces_of(matrices(SPEC, MIXED), HEAD):
        (stored,) = each.stored(weights)
        assert stored.shape == (each.rows, each.columns)
        np.testing.assert_array_equal(stored.rows(3, 9), whole[each.first_row + 3 : each.first_row + 9])
