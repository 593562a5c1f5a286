"""Tiny checkpoints of every kind, of `tiny.MISTRAL` with the weights of `tiny.weights`; see `golden.checkpoints`."""

from __future__ import annotations

from pathlib import Path

import pytest

from golden import checkpoints, tiny


@pytest.fixture
def tiny_gguf(tmp_path: Path) -> Path:
    """A GGUF file, F32."""
    return checkpoints.write_gguf(tmp_path / "tiny.gguf", tiny.MISTRAL, tiny.weights(tiny.MISTRAL))


@pytest.fixture
def tiny_huggingface(tmp_path: Path) -> Path:
    """A folder in Hugging Face's form, F32 in one file."""
    return checkpoints.write_huggingface(tmp_path / "huggingface", tiny.MISTRAL, tiny.weights(tiny.MISTRAL))


@pytest.fixture
def tiny_mistral(tmp_path: Path) -> Path:
    """A folder in Mistral's own form, F32 in one file."""
    return checkpoints.write_mistral(tmp_path / "mistral", tiny.MISTRAL, tiny.weights(tiny.MISTRAL))
