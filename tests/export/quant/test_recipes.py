"""What each choice stores, and which choices don't go together."""

from __future__ import annotations

import pytest

from bise_export.errors import UnsupportedError
from bise_export.quant.recipes import recipe


@pytest.mark.parametrize(
    ("precision", "vocabulary", "layers", "embedding", "rare"),
    [
        ("int4", None, "int4 block 32", "int8 block 64", "int4 block 32"),
        ("int4", "graded", "int4 block 32", "int8 block 64", "int4 block 32"),
        ("int4", "int8", "int4 block 32", "int8 block 64", "int8 block 64"),
        ("int4", "int4", "int4 block 32", "int4 block 32", "int4 block 32"),
        ("int8", None, "int8 block 32", "int8 block 32", "int8 block 32"),
        ("fp16", None, "fp16", "fp16", "fp16"),
        ("fp32", None, "fp32", "fp32", "fp32"),
    ],
)
def test_what_is_stored_how(precision, vocabulary, layers, embedding, rare):
    found = recipe(precision, 32, "cpu", None, vocabulary)
    assert (found.layers.name, found.embedding.name, found.rare.name) == (layers, embedding, rare)


@pytest.mark.parametrize("precision", ["int8", "fp16", "fp32"])
def test_a_vocabulary_of_its_own_is_for_int4(precision):
    with pytest.raises(UnsupportedError, match="--vocabulary int4: expected int4 weights, got"):
        recipe(precision, 32, "cpu", None, "int4")
