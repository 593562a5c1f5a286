"""Telling the template's control tokens from those that contents spell."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bise_daemon.chat.control import CLOSE, OPEN, ControlTokens

CONTROLS = ControlTokens({"<a>": 1, "<a>b": 2, "<end>": 3})
fragments = st.lists(st.sampled_from(["<a>", "b", "<", "a>", "<end>", " ", "\n", "text"]), max_size=6).map("".join)


@given(content=fragments)
def test_a_guarded_content_reads_back_with_no_control_token(content: str) -> None:
    reading = CONTROLS.read(CONTROLS.guard(content))

    assert (reading.text, reading.controls, reading.torn) == (content, [], False)


@given(content=fragments)
def test_space_around_a_content_can_still_be_trimmed(content: str) -> None:
    assert CONTROLS.read(CONTROLS.guard(content).strip()).text == content.strip()


@given(contents=st.lists(fragments, max_size=4))
def test_the_templates_control_tokens_are_placed_exactly(contents: list[str]) -> None:
    reading = CONTROLS.read("".join(f"<a>{CONTROLS.guard(content)}<end>" for content in contents))

    assert reading.text == "".join(f"<a>{content}<end>" for content in contents)
    assert [token_id for _, _, token_id in reading.controls] == [1, 3] * len(contents)
    assert [reading.text[start:end] for start, end, _ in reading.controls] == ["<a>", "<end>"] * len(contents)


def test_the_longest_control_token_wins() -> None:
    assert CONTROLS.read("<a>bb").controls == [(0, 4, 2)]


@pytest.mark.parametrize("guarded", [f"x{CLOSE}", f"{OPEN}x", f"{OPEN}{OPEN}x{CLOSE}", f"{CLOSE}{OPEN}"])
def test_a_content_without_both_edges_is_torn(guarded: str) -> None:
    assert CONTROLS.read(guarded).torn


def test_without_control_tokens_nothing_is_found() -> None:
    assert ControlTokens({}).read(f"<a>{OPEN}x{CLOSE}").controls == []
