"""onnxruntime's packing of one product's weights, taken from what it saves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto

_FILE = "packed.onnx"


def pack(model: ModelProto, folder: Path, scratch: Path) -> ModelProto:
    """The graph as onnxruntime saves it, with what its kernels packed in `scratch` beside it.

    Args:
        model: names files in `folder`.
        folder: where the weights are.
        scratch: where the saved files go; those of the call before are replaced.

    Raises:
        Exception: whatever onnxruntime raises.
    """
    options = _options(folder)
    options.optimized_model_filepath = str(scratch / _FILE)
    for name, value in (
        ("session.save_external_prepacked_constant_initializers", "1"),
        ("session.optimized_model_external_initializers_file_name", f"{_FILE}.data"),
        ("session.optimized_model_external_initializers_min_size_in_bytes", "0"),
    ):
        options.add_session_config_entry(name, value)
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(scratch / _FILE, load_external_data=False)


def run(model: ModelProto, folder: Path, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a graph of one input makes of it.

    Args:
        model: names files in `folder`.
        folder: where the weights are.
        values: float32 [rows, columns].

    Raises:
        Exception: whatever onnxruntime raises.
    """
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), _options(folder), providers=["CPUExecutionProvider"]
    )
    found: NDArray[np.float32] = session.run(None, {model.graph.input[0].name: values})[0]
    return found


def _options(folder: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    return options
