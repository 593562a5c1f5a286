"""The README says what the tree says."""

from __future__ import annotations

from pathlib import Path

from bench.readme import README, rendered


def test_its_figures_are_those_of_the_committed_results() -> None:
    text = README.read_text(encoding="utf-8")
    assert text == rendered(text), "run `python -m tests.bench.readme`"


def test_it_can_be_read_in_one_sitting() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


def test_every_page_it_links_to_exists() -> None:
    for page in ("ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"):
        assert f"({page})" in README.read_text(encoding="utf-8")
        assert Path(README.parent, page).is_file()
