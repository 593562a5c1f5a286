"""Fixtures for all parts."""

from __future__ import annotations

from pathlib import Path

import pytest

from bise_export.pipeline import ExportOptions, export
from golden import checkpoints, tiny

_MODELS = Path(__file__).parent.parent / ".cache" / "models"


@pytest.fixture(scope="session")
def smollm2_gguf() -> Path:
    """SmolLM2-135M-Instruct as `make setup` fetches it."""
    path = _MODELS / "SmolLM2-135M-Instruct.Q4_1.gguf"
    if not path.is_file():
        pytest.skip(f"{path} is missing; `make setup` fetches it")
    return path


class Quiet:
    """A progress nobody watches."""

    def step(self, name: str) -> None:
        pass

    def warn(self, text: str) -> None:
        pass

    def weights(self, parameters: int) -> None:
        pass

    def advance(self, parameters: int) -> None:
        pass


@pytest.fixture(scope="session")
def quiet() -> Quiet:
    """For calls of `bise_export.pipeline.export`."""
    return Quiet()


@pytest.fixture(scope="session")
def smollm2_bundle(smollm2_gguf: Path, tmp_path_factory: pytest.TempPathFactory, quiet: Quiet) -> Path:
    """SmolLM2 as `bise export` makes it when nothing is chosen: int4 weights, int8 cache."""
    folder = tmp_path_factory.mktemp("bundles") / "smollm2-int4"
    export(smollm2_gguf, folder, ExportOptions(name="SmolLM2-135M-Instruct", verify=False), quiet)
    return folder


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory, quiet: Quiet) -> Path:
    """A tiny random llama with a chat template, exported through the whole pipeline."""
    folder = tmp_path_factory.mktemp("bundles")
    source = checkpoints.write_huggingface(folder / "checkpoint", tiny.LLAMA, tiny.weights(tiny.LLAMA))
    export(source, folder / "tiny", ExportOptions(precision="int8", name="tiny", verify=False), quiet)
    return folder / "tiny"
