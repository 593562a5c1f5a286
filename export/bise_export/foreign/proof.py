"""Whether a decoder under bise's contract computes what it did under its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bise_export.agreement import Agreement, compare
from bise_export.errors import ExportError
from bise_export.foreign.decoder import Decoder
from bise_export.graph import io
from bise_export.runner import load_graph
from bise_export.sources.weight import Float32

# Two rows of several lengths, so that a step of both has one that is padded; the first is read in two chunks.
_PROMPTS, _FIRST_CHUNK, _STEPS, _CAPACITY = (9, 5), 4, 3, 16
# Mean KL in nats, by the cache's type. Measured: at most 2e-12 over float32 (SmolLM2 and tiny models from three
# exporters), 1.5e-7 over float16; int8 has the limit of `verify`. Positions that are wrong for the shorter row alone,
# in three steps, cost 0.01.
_LIMITS: Mapping[str, float] = {"float32": 1e-6, "float16": 1e-4, "int8": 2e-3}


def prove(file: Path, folder: Path, model_file: str, decoder: Decoder, head_dim: int, vocab_size: int) -> Agreement:
    """Runs the graph as it came and the one in the bundle's `folder` over the same tokens.

    Prompts in chunks, with and without logits, then steps of two rows of different lengths.

    Raises:
        ExportError: they do not agree; or onnxruntime is missing or fails.
        BundleError: one of them does not load.
    """
    chance = np.random.default_rng(0)
    rows = [chance.integers(0, vocab_size, length + _STEPS).tolist() for length in _PROMPTS]
    expected = _as_it_came(file, decoder, head_dim, rows)
    found = _under_contract(folder, model_file, decoder, head_dim, rows)
    expected[0], rows[0] = expected[0][_FIRST_CHUNK:], rows[0][_FIRST_CHUNK:]
    agreement = compare(zip(rows, expected, found, strict=True))
    limit = _LIMITS[np.dtype(decoder.cache_type.numpy()).name]
    if not agreement.mean_kl <= limit:
        raise ExportError(
            f"{file}: the graph does not say the same under bise's contract: expected a mean KL of at most {limit:g}, "
            f"got {agreement.mean_kl:.2g} nats. It takes its mask, positions or cache otherwise than Hugging Face's "
            "decoders do. Export it with input position_ids, or with onnxruntime-genai's builder."
        )
    return agreement


def _as_it_came(file: Path, decoder: Decoder, head_dim: int, rows: Sequence[Sequence[int]]) -> list[Float32]:
    """Logits [tokens, vocab] of each row, alone: its prompt at once, then token by token."""
    session, _ = load_graph(file.parent, file, "cpu")
    pairs = list(decoder.caches())
    empty = np.zeros((1, decoder.num_kv_heads, 0, head_dim), decoder.cache_type.numpy())
    outputs = [io.LOGITS, *(present for _, present in pairs)]
    found = []
    for prompt, tokens in zip(_PROMPTS, rows, strict=True):
        caches = {past: empty for past, _ in pairs}
        logits = []
        for start, end in [(0, prompt), *((at, at + 1) for at in range(prompt, len(tokens)))]:
            values: dict[str, NDArray[Any]] = {
                io.INPUT_IDS: np.array([tokens[start:end]]),
                io.ATTENTION_MASK: np.ones((1, end)),
                io.POSITION_IDS: np.arange(start, end)[None],
            }
            feeds = {name: values[name].astype(dtype.numpy()) for name, dtype in decoder.given.items()}
            with _runs(file):
                first, *presents = session.run(outputs, feeds | caches)
            caches = {past: present for (past, _), present in zip(pairs, presents, strict=True)}
            logits.append(np.asarray(first[0], np.float32))
        found.append(np.concatenate(logits))
    return found


def _under_contract(
    folder: Path, model_file: str, decoder: Decoder, head_dim: int, rows: Sequence[Sequence[int]]
) -> list[Float32]:
    """The same, but for the first row's first chunk, which asks for no logits; single tokens of all rows together."""
    session, _ = load_graph(folder, folder / model_file, "cpu")
    shape = (len(rows), decoder.num_kv_heads, _CAPACITY, head_dim)
    buffers = {pair: np.zeros(shape, decoder.cache_type.numpy()) for pair in decoder.caches()}

    def step(first: int, tokens: Sequence[Sequence[int]], pasts: Sequence[int], logits: int) -> Float32:
        ids = np.array(tokens, np.int64)
        totals = np.array(pasts, np.int32) + ids.shape[1]
        binding = session.io_binding()
        binding.bind_cpu_input(io.INPUT_IDS, ids)
        binding.bind_cpu_input(io.SEQLENS_K, totals - 1)
        binding.bind_cpu_input(io.TOTAL_SEQUENCE_LENGTH, np.array(totals.max()))
        binding.bind_cpu_input(io.LOGITS_POSITIONS, np.tile(np.arange(logits), (len(ids), 1)))
        binding.bind_output(io.LOGITS, "cpu")
        for (past, present), buffer in buffers.items():
            part = buffer[first : first + len(ids)]
            place = ("cpu", 0, part.dtype.type, part.shape, part.ctypes.data)
            binding.bind_input(past, *place)
            binding.bind_output(present, *place)
        with _runs(folder / model_file):
            session.run_with_iobinding(binding)
        found: Float32 = binding.get_outputs()[0].numpy()
        return found

    step(0, [rows[0][:_FIRST_CHUNK]], [0], 0)
    rest = _PROMPTS[0] - _FIRST_CHUNK
    prompts = [
        step(0, [rows[0][_FIRST_CHUNK : _PROMPTS[0]]], [_FIRST_CHUNK], rest)[0],
        step(1, [rows[1][: _PROMPTS[1]]], [0], _PROMPTS[1])[0],
    ]
    steps = []
    for at in range(_STEPS):
        pasts = [prompt + at for prompt in _PROMPTS]
        new = [[tokens[past]] for tokens, past in zip(rows, pasts, strict=True)]
        steps.append(step(0, new, pasts, 1)[:, 0])
    return [np.concatenate([prompt, [each[row] for each in steps]]) for row, prompt in enumerate(prompts)]


@contextmanager
def _runs(file: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # onnxruntime's exceptions share no narrower base
        raise ExportError(f"{file}: expected a graph that runs, got: {error!s:.600}. Export another.") from error
