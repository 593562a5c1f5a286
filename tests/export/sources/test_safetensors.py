"""The safetensors reader against the library's own writer, and against headers that lie."""

from __future__ import annotations

import os
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from bise_export.errors import SourceError, UnsupportedError
from bise_export.sources.safetensors import read_safetensors
from golden.checkpoints import write_raw_safetensors, write_safetensors

F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def test_the_librarys_files_are_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tensors = {
        "matrix": rng.standard_normal((5, 3)).astype(np.float32),
        "vector": rng.standard_normal(7).astype(np.float16),
        "empty": np.zeros((0, 4), np.float32),
    }
    save_file(tensors, tmp_path / "x.safetensors", metadata={"format": "np"})
    weights = read_safetensors(tmp_path / "x.safetensors")
    assert {name: (weight.shape, weight.dtype) for name, weight in weights.items()} == {
        "matrix": ((5, 3), "F32"),
        "vector": ((7,), "F16"),
        "empty": ((0, 4), "F32"),
    }
    for name, values in tensors.items():
        got = weights[name].rows(0, len(values))
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, values.astype(np.float32))


@pytest.mark.parametrize(("dtype", "numpy_dtype"), [("F32", "f4"), ("F16", "f2"), ("BF16", ml_dtypes.bfloat16)])
def test_rows_are_those_of_the_whole_in_every_element_type(tmp_path: Path, dtype: str, numpy_dtype: object) -> None:
    values = np.random.default_rng(1).standard_normal((11, 6)).astype(np.float32)
    weight = read_safetensors(write_safetensors(tmp_path / "x.safetensors", {"w": values}, dtype))["w"]
    expected = values.astype(numpy_dtype).astype(np.float32)
    for start, stop in [(0, 11), (3, 4), (4, 11), (5, 5)]:
        np.testing.assert_array_equal(weight.rows(start, stop), expected[start:stop])


@pytest.mark.parametrize(
    ("header", "data_bytes", "message"),
    [
        ({"w": F32}, 7, "expected [0-9]+ bytes by its header, got"),
        ({"w": F32}, 9, "expected [0-9]+ bytes by its header, got"),
        ({"w": F32 | {"data_offsets": [0, 9]}}, 9, r"expected 8 bytes for F32 \[2\], got offsets 0 to 9"),
        ({"w": F32 | {"data_offsets": [-8, 0]}}, 8, "got offsets -8 to 0"),
        ({"w": F32 | {"data_offsets": [8, 0]}}, 8, "got offsets 8 to 0"),
        ({"w": F32 | {"data_offsets": [8, 16]}}, 16, "'w'.*may not overlap or leave gaps"),
        ({"v": F32, "w": F32 | {"data_offsets": [4, 12]}}, 12, "'w'.*may not overlap or leave gaps"),
        ({"v": F32, "w": F32}, 8, "may not overlap or leave gaps"),
        ({"w": F32 | {"shape": [-1, -2]}}, 8, "expected a shape"),
        ({"w": F32 | {"shape": ["2"]}}, 8, "expected a shape"),
        ({"w": F32 | {"shape": [1] * 9}}, 4, "expected a shape"),
        ({"w": F32 | {"shape": [1 << 62, 1 << 62]}}, 8, "got offsets 0 to 8"),
        ({"w": {"dtype": "F32", "shape": [2]}}, 8, "expected dtype, shape and data_offsets"),
        ({"w": 3}, 8, "expected dtype, shape and data_offsets, got 3"),
        ([], 0, "expected a JSON object, got list"),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, header: object, data_bytes: int, message: str) -> None:
    path = write_raw_safetensors(tmp_path / "x.safetensors", header, bytes(data_bytes))
    with pytest.raises(SourceError, match=message) as caught:
        read_safetensors(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("dtype", ["F64", "I8", "F8_E4M3"])
def test_other_element_types_are_refused_by_name(tmp_path: Path, dtype: str) -> None:
    path = write_raw_safetensors(tmp_path / "x.safetensors", {"w": F32 | {"dtype": dtype}}, bytes(8))
    with pytest.raises(UnsupportedError, match=f"F32, F16, BF16, got '{dtype}'"):
        read_safetensors(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x01", bytes(8), (1).to_bytes(8, "little") + b"{", (1 << 63).to_bytes(8, "little") + b"{}"],
)
def test_a_broken_length_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(SourceError, match="expected a safetensors header of 2 to 100000000 bytes"):
        read_safetensors(path)


def test_a_header_beyond_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes((200_000_000).to_bytes(8, "little"))
    os.truncate(path, 300_000_000)  # sparse: takes no space
    with pytest.raises(SourceError, match="got a length of 200000000"):
        read_safetensors(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"w": ', "expected JSON"),
        (b"\xff\xfe{}", "expected JSON"),
        (b'{"w": 1, "w": 2}', "the key 'w' twice"),
        (b"[" * 100_000, "expected JSON"),
    ],
)
def test_a_header_that_is_no_json_is_refused(tmp_path: Path, text: bytes, message: str) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(SourceError, match=message):
        read_safetensors(path)


def test_every_cut_of_a_whole_file_is_refused(tmp_path: Path) -> None:
    whole = write_safetensors(tmp_path / "whole.safetensors", {"w": np.ones((2, 3), np.float32)}).read_bytes()
    path = tmp_path / "cut.safetensors"
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(SourceError, match=r"cut.safetensors"):
            read_safetensors(path)
