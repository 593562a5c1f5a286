"""What an export may hold: sizes as people write them, how work is cut to fit, refusals with the numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bise_export.budget import UNLIMITED, Ceiling, parse_size, resident_bytes
from bise_export.errors import ExportError

MIB = 1 << 20
HEAD = 4 * 128 * 5120  # Mistral Small 3's
HELD = 200 * MIB


def ceiling(cap_bytes):
    return Ceiling(cap_bytes, lambda: HELD)


@pytest.mark.parametrize(
    ("text", "found"),
    [("4GiB", 4 << 30), ("4 gib", 4 << 30), ("500MB", 500_000_000), ("1.5G", 1_500_000_000), ("4096", 4096)],
)
def test_sizes_as_people_write_them(text, found):
    assert parse_size(text, "--max-memory") == found


@pytest.mark.parametrize("text", ["", "GiB", "-1GiB", "4 PiB", "4GiBs", "four", "9" * 400])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ExportError, match="--max-memory: expected a size such as 4GiB"):
        parse_size(text, "--max-memory")


def test_the_kernel_says_what_this_process_holds():
    assert 10 * MIB < resident_bytes() < 64 << 30


@given(cap=st.integers(222 * MIB, 8 << 30), threads=st.integers(1, 64))
def test_pieces_fit_with_room_for_one_more(cap, threads):
    pieces = ceiling(cap).pieces(threads, HEAD)

    assert 1 <= pieces.threads <= threads
    assert pieces.piece_bytes >= HEAD
    assert (pieces.threads + 1) * pieces.held_bytes <= cap - HELD


def test_a_lower_ceiling_takes_smaller_pieces_before_fewer_threads():
    low, lower, lowest = (ceiling(cap * MIB).pieces(4, HEAD) for cap in (600, 300, 225))

    assert (low.threads, low.piece_bytes) == (4, 8 * MIB)
    assert low.piece_bytes > lower.piece_bytes > HEAD
    assert lower.threads > 1
    assert lowest.threads == 1


def test_without_a_ceiling_many_threads_still_hold_little():
    assert UNLIMITED.pieces(64, HEAD).piece_bytes == HEAD
    assert UNLIMITED.pieces(2, HEAD).piece_bytes == 8 * MIB


def test_a_ceiling_that_is_too_low_is_told_with_what_would_do():
    with pytest.raises(
        ExportError, match=r"--max-memory 210\.0 MiB: expected at least 221 MiB, 200\.0 MiB that are held"
    ):
        ceiling(210 * MIB).pieces(2, HEAD)
    assert ceiling(221 * MIB).pieces(2, HEAD).threads == 1
    with pytest.raises(ExportError, match=r"at least 301 MiB, .* 100\.0 MiB to calibrate\. .*=? ?301MiB, or --kv fp32"):
        ceiling(290 * MIB).check(100 * MIB, "to calibrate", ", or --kv fp32")
    ceiling(300 * MIB).check(100 * MIB, "to calibrate")
