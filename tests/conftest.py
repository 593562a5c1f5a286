"""Fixtures for all parts."""

from __future__ import annotations

from pathlib import Path

import pytest

_MODELS = Path(__file__).parent.parent / ".cache" / "models"


@pytest.fixture(scope="session")
def smollm2_gguf() -> Path:
    """SmolLM2-135M-Instruct as `make setup` fetches it."""
    path = _MODELS / "SmolLM2-135M-Instruct.Q4_1.gguf"
    if not path.is_file():
        pytest.skip(f"{path} is missing; `make setup` fetches it")
    return path
