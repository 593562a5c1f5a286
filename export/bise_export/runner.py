"""Runs a bundle's graph in onnxruntime, for verification: one row, no batching. Only here the export imports it."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bise_export.errors import ExportError
from bise_export.graph import io
from bise_export.sources.weight import Float32
from bise_proto.bundle import BundleError

# Target to (execution provider, device of the cache buffers, extra that installs it).
_TARGETS = {"cpu": ("CPUExecutionProvider", "cpu", "cpu"), "cuda": ("CUDAExecutionProvider", "cuda", "cuda")}
_LOG_NAME = "bise-verify"
_ELEMENT_TYPES: Mapping[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int8)": np.int8,
}


class Runner:
    """A loaded graph with one row of cache.

    Args:
        folder: where the graph's weight files lie.
        model: the serialized graph.
        target: "cpu" or "cuda".
        capacity: tokens the row may hold.

    Attributes:
        warnings: what onnxruntime warned of while loading.

    Raises:
        ExportError: onnxruntime, or the part of it that runs the target, is not installed.
        BundleError: the target is unknown, the graph does not load, or its inputs are not those of a bundle.
    """

    def __init__(self, folder: Path, model: bytes, target: str, capacity: int) -> None:
        self._session, self.warnings = load_graph(folder, model, target)
        self._capacity = capacity
        outputs = {output.name for output in self._session.get_outputs()}
        inputs = {each.name: each for each in self._session.get_inputs()}
        missing = {io.INPUT_IDS, io.SEQLENS_K, io.TOTAL_SEQUENCE_LENGTH, io.LOGITS_POSITIONS} - inputs.keys()
        self._own_prompts = io.PROMPT_TOKENS in inputs
        caches = [name for name in inputs if name.startswith("past_key_values.")]
        self._cache: list[tuple[str, str, Any]] = []
        for name in caches:
            present = name.replace("past_key_values", "present", 1)
            dtype = _ELEMENT_TYPES.get(inputs[name].type)
            if dtype is None or present not in outputs or len(inputs[name].shape) != 4:
                raise BundleError(f"{folder}: expected {name} [batch, heads, capacity, dim] with output {present}")
            _, heads, _, head_dim = inputs[name].shape
            buffer = _buffer((1, heads, capacity, head_dim), dtype, target)
            self._cache.append((name, present, buffer))
            if self._own_prompts:  # the only row is a prompt's slot, too
                self._cache.append((name.replace("past", "prompt", 1), f"prompt_{present}", buffer))
        if missing or io.LOGITS not in outputs or not caches:
            raise BundleError(f"{folder}: expected the inputs and outputs of a bundle's graph, got {sorted(inputs)}")

    def logits(self, prompt: Sequence[int]) -> Float32:
        """Logits [tokens, vocab] of every position of a prompt, in one prefill."""
        return self._step(prompt, 0, range(len(prompt)), is_prompt=True)

    def greedy(self, prompt: Sequence[int], tokens: int) -> list[int]:
        """The next `tokens` tokens, the most likely each time: one prefill, then single steps over the cache."""
        found = [int(self._step(prompt, 0, [len(prompt) - 1], is_prompt=True)[0].argmax())]
        while len(found) < tokens:
            past = len(prompt) + len(found) - 1
            found.append(int(self._step(found[-1:], past, [0], is_prompt=False)[0].argmax()))
        return found

    def _step(self, tokens: Sequence[int], past: int, positions: Sequence[int], *, is_prompt: bool) -> Float32:
        total = past + len(tokens)
        if total > self._capacity:
            raise ExportError(f"expected at most {self._capacity} tokens in a row, got {total}")
        binding = self._session.io_binding()
        feeds: dict[str, NDArray[np.generic]] = {
            io.INPUT_IDS: np.array([tokens], np.int64),
            io.SEQLENS_K: np.array([total - 1], np.int32),
            io.TOTAL_SEQUENCE_LENGTH: np.array(total, np.int32),
            io.LOGITS_POSITIONS: np.array([positions], np.int64),
        }
        if self._own_prompts:
            feeds[io.PROMPT_TOKENS] = np.array(len(tokens) if is_prompt else 0, np.int64)
            feeds[io.PROMPT_TOTAL] = np.array(total, np.int64)
        for name, values in feeds.items():
            binding.bind_cpu_input(name, values)
        binding.bind_output(io.LOGITS, "cpu")
        for past_name, present_name, buffer in self._cache:
            binding.bind_ortvalue_input(past_name, buffer)
            binding.bind_ortvalue_output(present_name, buffer)
        self._session.run_with_iobinding(binding)
        first = binding.get_outputs()[0]  # in the order of binding
        logits: Float32 = first.numpy()[0].astype(np.float32, copy=False)
        return logits


def load_graph(folder: Path, model: bytes | Path, target: str) -> tuple[Any, tuple[str, ...]]:
    """A session of onnxruntime's, and what it warned of while loading.

    Args:
        folder: where the graph's weight files lie.
        model: the graph, serialized or in a file.

    Raises:
        ExportError: onnxruntime, or the part of it that runs the target, is not installed.
        BundleError: the target is unknown, or the graph does not load.
    """
    if target not in _TARGETS:
        raise BundleError(f"{folder}: expected target {' or '.join(_TARGETS)}, got {target!r}. Export the model again.")
    provider, _, extra = _TARGETS[target]
    install = f"verification runs the graph in onnxruntime: pip install 'bise[{extra}]'"
    try:
        import onnxruntime
    except ImportError as error:
        raise ExportError(install) from error
    if provider not in onnxruntime.get_available_providers():
        raise ExportError(f"{provider} is not in the installed onnxruntime; {install}")
    options = onnxruntime.SessionOptions()
    options.logid = _LOG_NAME
    options.log_severity_level = 2  # warnings and worse
    options.enable_cpu_mem_arena = False  # it would keep twice the largest prompt's intermediates
    # Threads that wait for work by spinning would take the cores from the reference, which runs in between.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    with _standard_error() as lines:
        try:
            session = onnxruntime.InferenceSession(model, options, providers=[provider], enable_fallback=0)
        except Exception as error:  # onnxruntime's exceptions share no narrower base
            raise BundleError(f"{folder}: onnxruntime can't load the graph: {error}. Export it again.") from error
    warnings = tuple(line for line in lines if f":onnxruntime:{_LOG_NAME}" in line)
    for line in lines:
        if line not in warnings:
            print(line, file=sys.stderr)
    return session, warnings


@contextmanager
def _standard_error() -> Iterator[list[str]]:
    """Gathers what the process writes to its standard error: onnxruntime's log goes there and nowhere else.

    The list is filled when the block ends.
    """
    lines: list[str] = []
    sys.stderr.flush()
    with tempfile.TemporaryFile() as captured:
        saved = os.dup(2)
        os.dup2(captured.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            captured.seek(0)
            lines += captured.read().decode("utf-8", "replace").splitlines()


def _buffer(shape: tuple[int, ...], dtype: type[np.generic], target: str) -> Any:
    import onnxruntime

    return onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, dtype, _TARGETS[target][1], 0)
