"""The weight file: where tensors lie, and what happens when the disk has no more room."""

from __future__ import annotations

import errno
import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from bise_export.errors import ExportError
from bise_export.writer import Layout, WeightFile

FLOAT = np.dtype(np.float32)


def layout_of(**shapes):
    layout = Layout()
    for name, shape in shapes.items():
        layout.place(name, FLOAT, shape)
    return layout


def test_every_tensor_starts_on_a_page_and_none_overlap():
    layout = layout_of(a=(3, 5), b=(1,), c=(1024, 1), d=(7,))

    placed = [layout[name] for name in "abcd"]
    assert all(each.offset % 4096 == 0 for each in placed)
    for one, following in pairwise(placed):
        assert one.offset + one.size_bytes <= following.offset
    assert layout.size_bytes == placed[-1].offset + placed[-1].size_bytes


def test_an_alias_names_the_same_bytes_in_another_shape():
    layout = layout_of(a=(4, 6))
    size_bytes = layout.size_bytes

    alias = layout.alias("b", of="a", shape=(24,))

    assert (alias.offset, alias.size_bytes, alias.dtype) == (layout["a"].offset, 96, FLOAT)
    assert layout.size_bytes == size_bytes


def test_a_name_is_placed_once_and_an_alias_has_the_size_of_its_original():
    layout = layout_of(a=(4, 6))
    with pytest.raises(AssertionError):
        layout.place("a", FLOAT, (1,))
    with pytest.raises(AssertionError):
        layout.alias("b", of="a", shape=(23,))


def test_rows_are_written_to_their_place_in_any_order(tmp_path):
    layout = layout_of(a=(4, 3), b=(2,))
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    with WeightFile(tmp_path / "w", layout) as file:
        file.write("b", np.array([8, 9], np.float32))
        file.write("a", values[2:], first_row=2)
        file.write("a", values[:2])

    data = (tmp_path / "w").read_bytes()
    assert len(data) == layout.size_bytes
    np.testing.assert_array_equal(np.frombuffer(data, np.float32, 12).reshape(4, 3), values)
    np.testing.assert_array_equal(np.frombuffer(data, np.float32, 2, layout["b"].offset), [8, 9])


def test_rows_that_are_not_contiguous_are_written_as_they_read(tmp_path):
    values = np.arange(12, dtype=np.float32).reshape(3, 4).T
    with WeightFile(tmp_path / "w", layout_of(a=(4, 3))) as file:
        file.write("a", values)

    np.testing.assert_array_equal(np.fromfile(tmp_path / "w", np.float32).reshape(4, 3), values)


def test_writes_the_system_cuts_short_are_completed(tmp_path, monkeypatch):
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, view, offset: whole(file, view[:5], offset))
    values = np.random.default_rng(0).standard_normal((6, 7)).astype(np.float32)
    with WeightFile(tmp_path / "w", layout_of(a=(6, 7))) as file:
        file.write("a", values)

    np.testing.assert_array_equal(np.fromfile(tmp_path / "w", np.float32).reshape(6, 7), values)


@pytest.mark.parametrize(
    ("values", "first_row"),
    [
        (np.zeros((1, 3), np.float64), 0),
        (np.zeros((1, 4), np.float32), 0),
        (np.zeros((2, 3), np.float32), 3),
    ],
    ids=["another type", "another width", "past the end"],
)
def test_rows_that_do_not_fit_are_our_own_bug(tmp_path, values, first_row):
    with WeightFile(tmp_path / "w", layout_of(a=(4, 3))) as file, pytest.raises(AssertionError):
        file.write("a", values, first_row)


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def full(*_arguments):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_found_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "posix_fallocate", full)
    before = open_files()

    with pytest.raises(ExportError, match=r"w: expected room for 48 bytes, got: No space left on device\. Free"):
        WeightFile(tmp_path / "w", layout_of(a=(4, 3)))
    assert open_files() == before


def test_a_disk_that_fails_on_the_way_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "pwrite", full)

    with (
        pytest.raises(ExportError, match=r"w: expected room for 48 bytes, got: No space left on device"),
        WeightFile(tmp_path / "w", layout_of(a=(4, 3))) as file,
    ):
        file.write("a", np.zeros((4, 3), np.float32))


def test_a_weight_file_is_never_written_over(tmp_path):
    (tmp_path / "w").write_text("mine")

    with pytest.raises(FileExistsError):
        WeightFile(tmp_path / "w", layout_of(a=(4, 3)))
    assert (tmp_path / "w").read_text() == "mine"
