"""Dequantized GGUF weights against the library's own, bit for bit, on any range of rows."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFWriter

from bise_export.errors import SourceError, UnsupportedError
from bise_export.sources.finite import Finite
from bise_export.sources.gguf_header import read_header
from bise_export.sources.gguf_weight import GgufWeight, gguf_weight

READABLE = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"]
ROWS, COLUMNS = 37, 512
# Where the float16 scales lie in a block; random bytes there would be NaN now and then.
SCALES = {"Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}


def quantized(kind: GGMLQuantizationType) -> np.ndarray:
    """Bytes [ROWS, row bytes] of the given type; the library has no quantizer for K types, so random blocks there."""
    rng = np.random.default_rng(0)
    if kind.name not in SCALES:
        return gguf.quants.quantize(rng.standard_normal((ROWS, COLUMNS)).astype(np.float32), kind).view(np.uint8)
    block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (ROWS * COLUMNS // block, block_bytes), dtype=np.uint8)
    for offset in SCALES[kind.name]:
        blocks[:, offset : offset + 2] = rng.standard_normal((len(blocks), 1)).astype("<f2").view(np.uint8)
    return blocks.reshape(ROWS, -1)


def write(path: Path, name: str, data: np.ndarray, kind: GGMLQuantizationType) -> Path:
    writer = GGUFWriter(path, "llama")
    writer.add_tensor("before", np.ones(5, np.float32))
    writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("name", READABLE)
def test_rows_are_bit_exactly_the_librarys(tmp_path: Path, name: str) -> None:
    kind = GGMLQuantizationType[name]
    data = quantized(kind)
    expected = gguf.quants.dequantize(data, kind).reshape(ROWS, COLUMNS)
    path = write(tmp_path / "x.gguf", "w", data, kind)
    weight = gguf_weight("w", read_header(path).tensors["w"])
    assert (weight.shape, weight.dtype, weight.file) == ((ROWS, COLUMNS), name, path)
    for start, stop in [(0, ROWS), (0, 1), (16, 33), (ROWS - 1, ROWS), (5, 5)]:
        got = weight.rows(start, stop)
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got.view(np.uint32), expected[start:stop].view(np.uint32))


@pytest.mark.parametrize("name", ["Q2_K", "Q3_K", "IQ4_NL", "TQ1_0", "F64", "I8"])
def test_other_element_types_are_refused_by_name(tmp_path: Path, name: str) -> None:
    kind = GGMLQuantizationType[name]
    block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    path = write(tmp_path / "x.gguf", "w", np.zeros((2, 512 // block * block_bytes), np.uint8), kind)
    with pytest.raises(UnsupportedError, match=f"'w': expected an element type of .*Q4_K.* got {name}"):
        gguf_weight("w", read_header(path).tensors["w"])


def test_a_vector_in_blocks_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.gguf", "w", np.zeros(34, np.uint8), GGMLQuantizationType.Q8_0)
    with pytest.raises(UnsupportedError, match="for a vector"):
        gguf_weight("w", read_header(path).tensors["w"])


@pytest.mark.parametrize(("name", "scale_at"), [("Q8_0", 0), ("Q4_0", 0), ("Q4_1", 2), ("Q4_K", 2), ("Q6_K", 208)])
@pytest.mark.parametrize("scale", [np.nan, np.inf])
def test_a_broken_scale_fails_the_read(tmp_path: Path, name: str, scale_at: int, scale: float) -> None:
    kind = GGMLQuantizationType[name]
    data = quantized(kind)
    data[20, scale_at : scale_at + 2] = np.array([scale], "<f2").view(np.uint8)
    path = write(tmp_path / "x.gguf", "w", data, kind)
    weight = Finite(gguf_weight("w", read_header(path).tensors["w"]), "w")
    assert weight.rows(0, 20).shape == (20, COLUMNS)
    with pytest.raises(SourceError, match=r"x.gguf: w: expected finite numbers, got .* at \[20, "):
        weight.rows(10, 30)


@pytest.mark.real_model
def test_real_blocks_are_bit_exactly_the_librarys(smollm2_gguf: Path) -> None:
    tensors = read_header(smollm2_gguf).tensors
    for name in ("blk.0.ffn_down.weight", "token_embd.weight"):
        tensor = tensors[name]
        raw = np.fromfile(smollm2_gguf, np.uint8, tensor.extent.size_bytes, offset=tensor.extent.offset)
        rows = min(tensor.shape[0], 512)
        expected = gguf.quants.dequantize(raw.reshape(tensor.shape[0], -1)[:rows], tensor.type)
        np.testing.assert_array_equal(GgufWeight(tensor).rows(0, rows), expected)
