"""The sources as the architecture tests see them: files, syntax trees, imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "bise": ROOT / "sdk/bise",
    "bise_daemon": ROOT / "daemon/bise_daemon",
    "bise_export": ROOT / "export/bise_export",
    "bise_proto": ROOT / "proto/bise_proto",
}


@dataclass(frozen=True)
class Source:
    """A hand-written module.

    Attributes:
        package: the distribution's package it is in.
        name: as it is imported.
    """

    package: str
    name: str
    path: Path

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text(encoding="utf-8"))

    @cached_property
    def imports(self) -> frozenset[str]:
        """Every module named in an import, wherever in the file; `from a import b` counts as `a` and `a.b`."""
        return frozenset(_imports(self.tree))

    def __str__(self) -> str:
        return self.name


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _sources() -> list[Source]:
    found = []
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            if "_pb2" in path.name:
                continue
            parts = path.relative_to(folder.parent).with_suffix("").parts
            found.append(Source(package, ".".join(parts).removesuffix(".__init__"), path))
    return found


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def sources() -> list[Source]:
    """Every hand-written module of the four packages."""
    found = _sources()
    assert {source.package for source in found} == set(PACKAGES)
    assert len(found) > 100
    for source in found:
        _ = source.imports  # each is parsed once, here
    return found


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Runs a script in a fresh interpreter, outside of the repository; its output."""

    def run(script: str) -> str:
        ended = subprocess.run(
            [sys.executable, "-I", "-c", script],
            capture_output=True,
            text=True,
            timeout=100,
            cwd=tmp_path_factory.mktemp("elsewhere"),
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    return run
