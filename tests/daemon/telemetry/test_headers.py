"""Secret headers in a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from bise_daemon.telemetry.headers import read_headers


def write(folder: Path, content: str, mode: int = 0o600) -> Path:
    path = folder / "headers"
    path.write_text(content, encoding="utf-8")
    path.chmod(mode)
    return path


def test_lines_are_headers(tmp_path: Path) -> None:
    path = write(tmp_path, "# ours\nAuthorization: Bearer abc: def\n\nX-Fleet:nine\n", 0o440)
    assert read_headers(path) == {"Authorization": "Bearer abc: def", "X-Fleet": "nine"}


def test_a_file_that_all_can_read_is_no_secret(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"others can't read.*chmod o-r"):
        read_headers(write(tmp_path, "A: b\n", 0o644))


@pytest.mark.parametrize("line", ["hunter2", "A b: hunter2", ": hunter2", "A: hunter2\x07", "A: hunter2ä", "A:"])
def test_what_is_no_header_is_told_without_itself(tmp_path: Path, line: str) -> None:
    with pytest.raises(ValueError, match="in line 2 of") as error:
        read_headers(write(tmp_path, f"A: b\n{line}\n"))
    assert "hunter2" not in str(error.value)


def test_a_file_too_large_is_another_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at most 16384 bytes"):
        read_headers(write(tmp_path, "A: b\n" * 4000))
