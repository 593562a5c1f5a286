"""The one module that knows onnxruntime: a bundle's graph, run step by step over the slots of a KV cache."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from bise_daemon.engine.allocation import reused_memory
from bise_daemon.engine.kv import CacheShape, KvCache
from bise_daemon.engine.runner import Interrupted, Logits
from bise_daemon.scheduler.step import Decode, Prefill
from bise_proto.v1 import bundle_pb2

# Bindings kept: chunks come in many sizes, and each binding costs a few microseconds a layer to make.
_BINDINGS = 128
_PARTS = ("key", "value")


class SessionError(RuntimeError):
    """The graph can't be loaded or run here; the message says what to do."""


class _Shape(NamedTuple):
    """What a binding is for: [batch, sequence] tokens, of these the first `prompt_tokens` a chunk's."""

    batch: int
    sequence: int
    num_logits: int
    first_slot: int
    rows: int
    prompt_slot: int
    prompt_tokens: int = 0


@dataclass(slots=True)
class _Binding:
    """The graph's inputs and outputs bound to buffers that stay: a step only writes numbers into them.

    `logits`, [batch, num_logits, vocab], is a view of what all bindings share.
    """

    io: Any
    input_ids: NDArray[np.int64]
    seqlens_k: NDArray[np.int32]
    total_sequence_length: NDArray[np.int32]
    positions: NDArray[np.int64]
    prompt_tokens: NDArray[np.int64]
    prompt_total: NDArray[np.int64]
    logits: Logits


class Session:
    """A loaded graph with its cache. Not for use by two threads.

    Args:
        folder: the bundle's, already checked.
        cache: where the steps keep keys and values.
        threads: for one step; 0 is one per physical core.
        specialised: the same graph with weights packed for this device, which are mapped; see `specialise.store`.

    Raises:
        SessionError: onnxruntime refuses the graph, or the bundle is for another target.
    """

    def __init__(
        self,
        folder: Path,
        bundle: bundle_pb2.Bundle,
        cache: KvCache,
        threads: int = 0,
        specialised: Path | None = None,
    ) -> None:
        if bundle.graph.target != "cpu":
            raise SessionError(
                f"{folder}: expected a bundle for cpu, got one for {bundle.graph.target!r}. "
                "Export it with --target cpu."
            )
        # Spin for the next operator inside a step, but leave the cores to callers and sockets between steps: on two
        # cores, a client over the socket sees 3 to 10 % more tokens/s (`make bench`, client).
        settings = {"session.intra_op.allow_spinning": "1", "session.force_spinning_stop": "1"}
        if specialised is not None:
            settings["session.prepack.enable_parallel"] = "1"
        try:
            # Even packed weights are found by what the kernels pack at load, each in memory of its own for a moment.
            with nullcontext() if specialised is None else reused_memory():
                self._session = load_graph(specialised or folder / bundle.graph.model_file, threads, settings)
        except Exception as error:
            raise SessionError(
                f"{folder}: expected a graph onnxruntime {runtime_version()} can load, got: {_line(error)} "
                "Export the model again, with this version of bise."
            ) from error
        self._own_prompts = bundle.graph.prompt_attention == "float"
        self._cache = cache
        self._vocab_size = bundle.architecture.vocab_size
        self._bindings: OrderedDict[_Shape, _Binding] = OrderedDict()
        self._logits: Logits = np.zeros((cache.shape.slots, self._vocab_size), np.float32)
        self._run_options = onnxruntime.RunOptions()

    def prefill(self, slot: int, start: int, tokens: Sequence[int], samples: bool) -> Logits:
        """Runs prompt tokens at positions `start …` of a slot.

        Args:
            samples: whether logits are wanted; without them the head is not computed.

        Returns:
            Logits after the last of the tokens, float32 [1, vocab], or [0, vocab]; valid until the next step.

        Raises:
            SessionError: onnxruntime failed.
            Interrupted: by `interrupt`; cache entries from `start` on are undefined.
        """
        count, end = len(tokens), start + len(tokens)
        binding = self._binding(_Shape(1, count, int(samples), slot, 1, slot, count if self._own_prompts else 0))
        binding.input_ids[0] = tokens
        binding.prompt_total[...] = end
        binding.positions[:] = count - 1
        logits: Logits = self._run(binding, [end - 1])[0]
        return logits

    def mixed(self, chunk: Prefill, step: Decode) -> tuple[Logits, Logits]:
        """`prefill` and `decode` in one step, of a graph where prompts attend in a way of their own.

        The chunk's slot may be one of the rows', if that row writes behind the chunk.

        Returns:
            What either returns, valid until the next step.

        Raises:
            SessionError: onnxruntime failed.
            Interrupted: as for `prefill`; what the rows wrote lies beyond what they hold.
        """
        count, rows, sampled = len(chunk.tokens), len(step.rows), int(chunk.samples)
        binding = self._binding(_Shape(1, count + rows, sampled + rows, step.first_slot, rows, chunk.slot, count))
        binding.input_ids[0] = [*chunk.tokens, *(row.token for row in step.rows)]
        binding.prompt_total[...] = chunk.start + count
        binding.positions[0] = range(count - sampled, count + rows)
        logits = self._run(binding, [row.position for row in step.rows])[0]
        return logits[:sampled], logits[sampled:]

    def verify(self, slot: int, start: int, tokens: Sequence[int], num_logits: int) -> Logits:
        """Runs an answer's tokens at positions `start …` of a slot, with logits after each of the last `num_logits`.

        Returns:
            Logits, float32 [num_logits, vocab], valid until the next step.

        Raises:
            SessionError: onnxruntime failed.
            Interrupted: as for `prefill`.
        """
        count = len(tokens)
        binding = self._binding(_Shape(1, count, num_logits, slot, 1, slot))
        binding.input_ids[0] = tokens
        binding.positions[0] = range(count - num_logits, count)
        logits: Logits = self._run(binding, [start + len(tokens) - 1])[0]
        return logits

    def decode(self, first_slot: int, tokens: Sequence[int], positions: Sequence[int]) -> Logits:
        """Runs one token for each of a range of slots, at its position.

        Returns:
            Logits, float32 [rows, vocab], valid until the next step.

        Raises:
            SessionError: onnxruntime failed.
            Interrupted: as for `prefill`.
        """
        binding = self._binding(_Shape(len(tokens), 1, 1, first_slot, len(tokens), first_slot))
        binding.input_ids[:, 0] = tokens
        return self._run(binding, positions)[:, 0]

    def interrupt(self) -> None:
        """Gives up the step that runs now, if one does; takes effect after its present operator. From any thread."""
        self._run_options.terminate = True

    def _run(self, binding: _Binding, last_positions: Sequence[int]) -> Logits:
        """Runs a step after which the rows' last tokens are at these positions."""
        binding.seqlens_k[:] = last_positions
        binding.total_sequence_length[...] = binding.seqlens_k.max() + 1
        # Fresh for every step, so that an interruption that comes too late hits none.
        options = self._run_options = onnxruntime.RunOptions()
        try:
            self._session.run_with_iobinding(binding.io, options)
        except Exception as error:
            if options.terminate:
                raise Interrupted from None
            raise SessionError(
                f"onnxruntime failed in a step: {_line(error)} Check the bundle with `bise verify`."
            ) from error
        return binding.logits

    def _binding(self, shape: _Shape) -> _Binding:
        if shape in self._bindings:
            self._bindings.move_to_end(shape)
            return self._bindings[shape]
        try:
            binding = self._bindings[shape] = self._bind(shape)
        except Exception as error:
            raise SessionError(
                f"expected a graph with the inputs and outputs of bise's, got: {_line(error)} Export the model again."
            ) from error
        if len(self._bindings) > _BINDINGS:
            self._bindings.popitem(last=False)
        return binding

    def _bind(self, shape: _Shape) -> _Binding:
        logits_shape = (shape.batch, shape.num_logits)
        if prod(logits_shape) > len(self._logits):
            self._bindings.clear()
            self._logits = np.zeros((prod(logits_shape), self._vocab_size), np.float32)
        binding = _Binding(
            self._session.io_binding(),
            np.zeros((shape.batch, shape.sequence), np.int64),
            np.zeros(shape.rows, np.int32),
            np.zeros((), np.int32),
            np.zeros((shape.batch, shape.num_logits), np.int64),
            np.array(shape.prompt_tokens, np.int64),
            np.zeros((), np.int64),
            self._logits[: prod(logits_shape)].reshape(*logits_shape, self._vocab_size),
        )
        for name in ("input_ids", "seqlens_k", "total_sequence_length"):
            _bind_input(binding.io, name, getattr(binding, name))
        _bind_input(binding.io, "logits_positions", binding.positions)
        _bind_output(binding.io, "logits", binding.logits)
        self._bind_cache(binding.io, "past_key_values", "present", shape.first_slot, shape.rows)
        if self._own_prompts:
            _bind_input(binding.io, "prompt_tokens", binding.prompt_tokens)
            _bind_input(binding.io, "prompt_total", binding.prompt_total)
            self._bind_cache(binding.io, "prompt_key_values", "prompt_present", shape.prompt_slot, 1)
        return binding

    def _bind_cache(self, io: Any, past: str, present: str, first_slot: int, rows: int) -> None:
        """Slots as input and output at once: a step adds to them in place."""
        for layer in range(self._cache.shape.num_layers):
            for part, name in enumerate(_PARTS):
                view = self._cache.rows(layer, part, first_slot, rows)
                _bind_input(io, f"{past}.{layer}.{name}", view)
                _bind_output(io, f"{present}.{layer}.{name}", view)


def load_graph(model: Path | bytes, threads: int, settings: Mapping[str, str], saved_as: Path | None = None) -> Any:
    """onnxruntime's session of a graph on cpu, in a file or serialized.

    Args:
        threads: for one step; 0 is one per physical core.
        settings: entries of onnxruntime's session configuration.
        saved_as: where onnxruntime saves the graph as it will run it; None is nowhere.

    Raises:
        Exception: whatever onnxruntime raises.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if saved_as is not None:
        options.optimized_model_filepath = str(saved_as)
    for name, value in settings.items():
        options.add_session_config_entry(name, value)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def cache_shape(bundle: bundle_pb2.Bundle, slots: int, context_tokens: int) -> CacheShape:
    """The cache that a bundle's graph needs."""
    architecture = bundle.architecture
    return CacheShape(
        architecture.num_layers,
        architecture.num_kv_heads,
        architecture.head_dim,
        np.dtype(bundle.kv_cache.dtype),
        slots,
        context_tokens,
    )


def runtime_version() -> str:
    """onnxruntime's version."""
    return str(onnxruntime.__version__)


def _line(error: Exception) -> str:
    """An error of onnxruntime, whose texts may have several lines, as a sentence."""
    return " ".join(str(error).split()).rstrip(".") + "."


def _bind_input(io: Any, name: str, array: NDArray[Any]) -> None:
    io.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)


def _bind_output(io: Any, name: str, array: NDArray[Any]) -> None:
    io.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
