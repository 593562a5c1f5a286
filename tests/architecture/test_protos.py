"""The committed stubs are those of the committed protos."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_stubs_are_fresh(root: Path, tmp_path: Path) -> None:
    protos = sorted((root / "proto/bise_proto/v1").glob("*.proto"))
    assert protos
    outputs = [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")]
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", "-Iproto", *outputs, *(path.relative_to(root) for path in protos)],
        cwd=root,
        check=True,
        timeout=100,
    )
    made = {path.name: path.read_text() for path in (tmp_path / "bise_proto/v1").iterdir()}
    committed = {
        path.name: path.read_text() for path in (root / "proto/bise_proto/v1").iterdir() if "_pb2" in path.name
    }
    assert made.keys() == committed.keys(), "run `make proto`"
    stale = [name for name, text in made.items() if committed[name] != text]
    assert not stale, "run `make proto`"
