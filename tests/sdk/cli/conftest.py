"""Runs `bise` commands in this process, as a person would type them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import pytest
from typer.testing import CliRunner, Result

from bise.cli.app import app


class Run(Protocol):
    def __call__(self, *arguments: str, stdin: str = "") -> Result: ...


@pytest.fixture
def run() -> Callable[..., Result]:
    def command(*arguments: str, stdin: str = "") -> Result:
        return CliRunner().invoke(app, list(arguments), input=stdin, env={"BISE_ADDRESS": None})

    return command


@pytest.fixture
def nobody(tmp_path: object) -> str:
    """An address at which nobody answers."""
    return f"unix://{tmp_path}/no.sock"
