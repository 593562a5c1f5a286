"""The journal: what it keeps, what it cuts off, what it does not trust, and who may write it."""

from __future__ import annotations

import pytest

from bise_export.errors import ExportError
from bise_export.journal import Journal


@pytest.fixture
def path(tmp_path):
    """A journal of two entries."""
    path = tmp_path / "journal"
    with Journal(path, "source one") as journal:
        journal.add("a", "1")
        journal.add("b", "2")
    return path


def read(path, identity="source one"):
    with Journal(path, identity) as journal:
        return journal.resumes, journal.problem, journal.get("a"), journal.get("b")


def test_a_new_journal_resumes_nothing_and_has_no_problem(tmp_path):
    assert read(tmp_path / "new") == (False, "", None, None)


def test_what_was_added_is_there_when_it_is_opened_again(path):
    assert read(path) == (True, "", "1", "2")
    assert read(path) == (True, "", "1", "2")


def test_wherever_a_kill_cuts_it_short_the_whole_lines_count(path):
    text = path.read_bytes()
    ends = [at for at, byte in enumerate(text) if byte == ord("\n")]
    for length in range(len(text)):
        path.write_bytes(text[:length])
        whole = sum(end < length for end in ends)

        assert read(path) == (whole > 0, "", "1" if whole > 1 else None, None)


def test_after_a_short_line_the_next_one_is_whole_again(path):
    path.write_bytes(path.read_bytes()[:-3])
    with Journal(path, "source one") as journal:
        journal.add("c", "3")

    with Journal(path, "source one") as journal:
        assert (journal.get("a"), journal.get("b"), journal.get("c")) == ("1", None, "3")


def test_no_flipped_bit_is_trusted(path):
    text = path.read_bytes()
    for at in range(len(text) - 1):
        path.write_bytes(text[:at] + bytes([text[at] ^ 1]) + text[at + 1 :])

        resumes, problem, *entries = read(path)
        assert (resumes, entries) == (False, [None, None])
        assert "is damaged" in problem


def test_an_entry_of_another_source_is_not_taken_over(path):
    resumes, problem, *entries = read(path, "source two")
    assert (resumes, entries) == (False, [None, None])
    assert problem == "it is of another source, other options or another version of bise"
    assert read(path, "source two") == (True, "", None, None)


def test_one_too_large_is_not_read(path):
    with path.open("ab") as stream:
        stream.truncate(1 << 40)

    assert read(path)[:2] == (False, "it is larger than 67108864 bytes")


def test_only_one_may_write_it(path):
    with Journal(path, "source one"), pytest.raises(ExportError, match="got another that is running"):
        Journal(path, "source one")


def test_one_that_was_removed_is_gone(path):
    with Journal(path, "source one") as journal:
        journal.remove()

    assert not path.exists()
