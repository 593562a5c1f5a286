"""Whose logits a bundle is compared with, and that both kinds give the same."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import numpy as np
import pytest

from bise_export import oracle
from bise_export.errors import ExportError
from bise_export.oracle import Numpy, bounded, independent
from bise_export.sources.open import open_checkpoint

PROMPTS = [[1, 17, 301, 4, 4, 250], [11, 5]]
INSTALLED = all(importlib.util.find_spec(name) for name in ("torch", "transformers"))


def test_numpy_takes_what_transformers_can_not(tiny_gguf, tiny_mistral):
    for source in (tiny_gguf, tiny_mistral):
        assert isinstance(independent(open_checkpoint(source)), Numpy)


@pytest.mark.parametrize("missing", ["torch", "transformers"])
def test_numpy_takes_everything_where_a_package_is_missing(tiny_huggingface, monkeypatch, missing):
    monkeypatch.setattr(oracle, "find_spec", lambda name: None if name == missing else object())

    assert isinstance(independent(open_checkpoint(tiny_huggingface)), Numpy)


def test_numpy_takes_what_is_too_large_or_only_a_part(tiny_huggingface, monkeypatch):
    monkeypatch.setattr(oracle, "find_spec", lambda _name: object())
    checkpoint = open_checkpoint(tiny_huggingface)

    assert isinstance(independent(replace(checkpoint, notes=("images are left out",))), Numpy)
    monkeypatch.setattr(oracle, "_HELD_PARAMETERS", 1000)
    assert isinstance(independent(checkpoint), Numpy)


@pytest.mark.slow
@pytest.mark.skipif(not INSTALLED, reason="needs the reference extra")
def test_transformers_gives_the_same_logits(tiny_huggingface):
    checkpoint = open_checkpoint(tiny_huggingface)
    one, other = independent(checkpoint), bounded(checkpoint)
    for each in (one, other):
        each.prepare(PROMPTS)

    assert one.name == "transformers float32"
    for first, second in zip(one.each_logits(), other.each_logits(), strict=True):
        np.testing.assert_allclose(first, second, rtol=0, atol=2e-5)


@pytest.mark.slow
@pytest.mark.skipif(not INSTALLED, reason="needs the reference extra")
def test_a_folder_that_transformers_refuses_is_told(tiny_huggingface):
    checkpoint = open_checkpoint(tiny_huggingface)
    (tiny_huggingface / "model.safetensors").unlink()

    with pytest.raises(ExportError, match="transformers can't load it"):
        independent(checkpoint)
