"""Fleets in files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bise_daemon.config.problem import ConfigError
from bise_daemon.fleet.fleet import Fleet, load_fleet

Loads = Callable[[str], Fleet]
Problems = Callable[[str], list[str]]


@pytest.fixture
def fleet(tmp_path: Path) -> Loads:
    def load(text: str) -> Fleet:
        path = tmp_path / "fleet.yaml"
        path.write_text(text)
        return load_fleet(path)

    return load


@pytest.fixture
def problems(fleet: Loads, tmp_path: Path) -> Problems:
    """The problems of a file with this text, without the folder's name."""

    def load(text: str) -> list[str]:
        with pytest.raises(ConfigError) as error:
            fleet(text)
        return [str(problem).replace(f"{tmp_path}/", "") for problem in error.value.problems]

    return load
