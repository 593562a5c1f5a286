"""Tiny decoders as other exporters wrote them, to be changed by tests; see golden/make_foreign.py."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import onnx_ir as ir
import pytest

from golden.make_foreign import FOLDER


@pytest.fixture
def foreign(tmp_path: Path) -> Callable[..., Path]:
    """The .onnx file of an exporter ("genai", "optimum") in a folder of its own, once `change` was at its graph."""

    def make(exporter: str, change: Callable[[ir.Model], None] = lambda _model: None, **config: object) -> Path:
        folder = shutil.copytree(FOLDER / exporter, tmp_path / exporter)
        file = folder / "model.onnx"
        model = ir.load(file)
        change(model)
        ir.save(model, file)
        beside = folder / "config.json"
        if config:
            beside.write_text(json.dumps(json.loads(beside.read_text()) | config))
        return file

    return make
