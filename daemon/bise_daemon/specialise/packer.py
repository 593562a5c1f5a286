"""onnxruntime's packing of one product's weights, taken from what it saves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto

from bise_daemon.engine.session import load_graph

_FILE = "packed.onnx"
_FOLDER = "session.model_external_initializers_file_folder_path"
_SAVING = {
    "session.save_external_prepacked_constant_initializers": "1",
    "session.optimized_model_external_initializers_file_name": f"{_FILE}.data",
    "session.optimized_model_external_initializers_min_size_in_bytes": "0",
}


def pack(model: ModelProto, folder: Path, scratch: Path) -> ModelProto:
    """The graph as onnxruntime saves it, with what its kernels packed in `scratch` beside it.

    Args:
        model: names files in `folder`.
        folder: where the weights are.
        scratch: where the saved files go; those of the call before are replaced.

    Raises:
        Exception: whatever onnxruntime raises.
    """
    load_graph(model.SerializeToString(), 1, {_FOLDER: str(folder), **_SAVING}, scratch / _FILE)
    return onnx.load(scratch / _FILE, load_external_data=False)


def run(model: ModelProto, folder: Path, inputs: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    """What a graph of one input makes of each of these.

    Args:
        model: names files in `folder`.
        folder: where the weights are.
        inputs: each float32 [rows, columns].

    Raises:
        Exception: whatever onnxruntime raises.
    """
    session = load_graph(model.SerializeToString(), 1, {_FOLDER: str(folder)})
    name = model.graph.input[0].name
    return [session.run(None, {name: values})[0] for values in inputs]
