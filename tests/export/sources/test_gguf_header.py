"""The GGUF header reader against the library's, and against files that lie or end early."""

from __future__ import annotations

import struct
from pathlib import Path

import gguf
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bise_export.errors import ExportError, SourceError, UnsupportedError
from bise_export.sources.gguf_header import read_header

U8, U32, STRING, ARRAY = 0, 4, 8, 9


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def header(*entries: bytes, tensors: tuple[bytes, ...] = (), version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(entries)) + b"".join(entries + tensors)


def entry(key: bytes, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def tensor(name: bytes, shape: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def read(tmp_path: Path, content: bytes) -> object:
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    return read_header(path)


def assert_agrees_with_the_library(path: Path) -> None:
    ours, theirs = read_header(path), gguf.GGUFReader(path)
    fields = {key: field.contents() for key, field in theirs.fields.items() if not key.startswith("GGUF.")}
    assert ours.metadata == fields
    assert {
        name: (tensor.shape[::-1], tensor.type, tensor.extent.offset, tensor.extent.size_bytes)
        for name, tensor in ours.tensors.items()
    } == {t.name: (tuple(t.shape.tolist()), t.tensor_type, t.data_offset, t.n_bytes) for t in theirs.tensors}


def test_a_tiny_file_reads_as_the_library_reads_it(tiny_gguf: Path) -> None:
    assert_agrees_with_the_library(tiny_gguf)


@pytest.mark.slow
@pytest.mark.real_model
def test_a_real_file_reads_as_the_library_reads_it(smollm2_gguf: Path) -> None:
    assert_agrees_with_the_library(smollm2_gguf)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the magic: expected 4 more bytes"),
        (b"GGML" + bytes(20), "expected the magic b'GGUF', got b'GGML'"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 0), "tensors: expected at most 65536, got 1152921504606846976"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 60), "metadata keys: expected at most 65536"),
        (header(struct.pack("<Q", 1 << 62)), "a metadata key: expected text of at most 65536 bytes"),
        (header(entry(b"k", STRING, struct.pack("<Q", 1 << 40))), "k: expected text of at most"),
        (header(entry(b"k", STRING, struct.pack("<Q", 1000))), "k: expected 1000 more bytes"),
        (header(entry(b"k", STRING, text(b"\xff"))), "k: expected UTF-8"),
        (header(entry(b"k", 99, b"")), "'k': expected a known value type, got number 99"),
        (header(entry(b"k", ARRAY, struct.pack("<IQ", U8, 1 << 40))), "k: expected at most"),
        (header(entry(b"k", ARRAY, struct.pack("<IQ", U32, 1 << 20))), "k: expected 4194304 more bytes"),
        (header(entry(b"k", U8, b"1"), entry(b"k", U8, b"1")), "'k' twice"),
        (header(entry(b"general.alignment", U32, struct.pack("<I", 0))), "expected a power of two"),
        (header(entry(b"general.alignment", U32, struct.pack("<I", 24))), "expected a power of two"),
        (header(entry(b"general.alignment", STRING, text(b"32"))), "expected a power of two"),
        (header(tensors=(tensor(b"t", (4,), offset=0),)), "'t': expected data to byte"),
        (header(tensors=(tensor(b"t", (1 << 62, 1 << 62)),)), "'t': expected data to byte"),
        (header(tensors=(tensor(b"t", (1,) * 5),)), "expected 1 to 4 dimensions, got 5"),
        (header(tensors=(tensor(b"t", ()),)), "expected 1 to 4 dimensions, got 0"),
        (header(tensors=(tensor(b"t", (4,), kind=999),)), "'t': expected a known element type, got number 999"),
        (header(tensors=(tensor(b"t", (33, 2), kind=2),)) + bytes(200), "rows of whole Q4_0 blocks of 32"),
        (header(tensors=(tensor(b"t", (4,), offset=3),)) + bytes(200), "at a multiple of 32"),
        (header(tensors=(tensor(b"t", (16,)), tensor(b"u", (16,), offset=32))) + bytes(300), "'u': .* behind byte"),
        (header(tensors=(tensor(b"t", (8,)), tensor(b"t", (8,), offset=32))) + bytes(300), "each tensor once, got 't'"),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        read(tmp_path, content)
    assert "x.gguf" in str(caught.value)


@pytest.mark.parametrize("version", [1, 4, 0x03000000])
def test_other_versions_and_byte_orders_are_refused(tmp_path: Path, version: int) -> None:
    with pytest.raises(UnsupportedError, match="little-endian GGUF version 2 or 3"):
        read(tmp_path, header(version=version))


def test_nested_arrays_are_refused(tmp_path: Path) -> None:
    nested = struct.pack("<IQ", ARRAY, 1) + struct.pack("<IQ", U8, 1) + b"1"
    with pytest.raises(UnsupportedError, match="expected a flat array"):
        read(tmp_path, header(entry(b"k", ARRAY, nested)))


def test_every_cut_of_a_whole_file_is_refused(tmp_path: Path, tiny_gguf: Path) -> None:
    whole = tiny_gguf.read_bytes()
    for size in [*range(0, 400, 13), *range(400, len(whole), 79999), len(whole) - 1]:
        with pytest.raises(SourceError):
            read(tmp_path, whole[:size])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_garbage_in_the_header_never_escapes_as_another_error(tmp_path: Path, data: st.DataObject) -> None:
    sound = bytearray(
        header(
            entry(b"a.key", STRING, text(b"value")),
            entry(b"a.list", ARRAY, struct.pack("<IQ", U32, 3) + bytes(12)),
            tensors=(tensor(b"t", (4, 2)), tensor(b"u", (32, 2), kind=2, offset=32)),
        )
        + bytes(128)
    )
    for _ in range(data.draw(st.integers(1, 4))):
        sound[data.draw(st.integers(0, len(sound) - 1))] = data.draw(st.integers(0, 255))
    try:
        read(tmp_path, bytes(sound))
    except ExportError as error:
        assert "x.gguf" in str(error)  # noqa: PT017 - a sound file may come out too
