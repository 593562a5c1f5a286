"""Where answers can be cut, in several languages."""

# ruff: noqa: RUF001 - punctuation that looks like other punctuation is what this is about
from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bise_daemon.phrases.boundary import CLAUSE, SENTENCE, Boundary, whole_words


def phrases(boundary: Boundary, text: str, sizes: list[int] | None = None) -> list[str]:
    """The text cut as it comes in, so many characters at a time; the last is what is left at its end."""
    found, held, begin, at = [], "", 0, 0
    sizes = sizes or [1]
    while at < len(text):
        size = sizes[len(found) % len(sizes)]
        held, at = held + text[at : at + size], at + size
        while True:
            end, begin = boundary.find(held, begin)
            if not end:
                break
            found.append(held[:end])
            held = held[end:]
    return [*found, held]


SENTENCES = [
    ["Hello there.", " How are you?", " Fine!", " Really?!", " Yes"],
    ["It costs 3.14 euros.", " Then 1,000.50 more."],
    ["Dr. Smith met J. S. Bach vs. Prof. Bell at 5 p.m. today.", " He said no.", " Then he left, e.g. home."],
    ['He said "Stop."', " Then (really!) he went.", " [Good.]", " So"],
    ['"Stop!" he cried.', " It stopped."],
    ["Wait... what?", " Yes…", " No.", " Ok"],
    ["See example.com or v1.2.3.", " Or 10.0.0.1."],
    ["In 1999.", " Then in 2001."],
    ["Am 3. Mai kommt z. B. Hr. Meier.", " Gut so."],
    ["„Das ist gut.“", " Sagte er.", " »Ja!«", " Nun"],
    ["Bien sûr !", " «Oui.»", " M. Dupont et Mme. Martin.", " Vraiment ?", " Oui"],
    ["¿Qué tal?", " ¡Bien!", " La Sra. López vive en EE.UU. desde ayer."],
    ["Это т.д. и ул. всё.", " Хорошо.", " Да"],
    ["你好。", "“我是谁？”", "他说：没事，好的。」", "行"],
    ["これは本です。", "「はい！」", "3.5円です"],
    ["هل أنت بخير؟", " نعم، شكرا."],
    ["यह अच्छा है।", " हाँ।"],
    ["- milk", "\n- bread", "\n\n1. First of all", "\t\n2. Second"],
]


@pytest.mark.parametrize("expected", SENTENCES, ids=lambda expected: expected[0][:20])
@pytest.mark.parametrize("sizes", [[1], [3], [1000], [2, 7, 1]], ids=str)
def test_sentences(expected: list[str], sizes: list[int]) -> None:
    assert phrases(SENTENCE, "".join(expected), sizes) == expected


def test_clauses_are_sentences_and_what_a_pause_is_heard_after() -> None:
    expected = [
        "Well,",
        " it rains;",
        " take —",
        " please -",
        " an umbrella (a big one)",
        " at 10:30:",
        " 1,000 ones.",
        " OK",
    ]
    assert phrases(CLAUSE, "".join(expected)) == expected
    assert phrases(CLAUSE, "你好，我是谁：没事。行") == ["你好，", "我是谁：", "没事。", "行"]


@pytest.mark.parametrize("text", ["", "   ", "...", "?! … !\n\n—", "😀. \n"])
def test_what_nobody_can_say_is_no_phrase(text: str) -> None:
    assert phrases(CLAUSE, text) == [text]


LETTERS = st.text(alphabet=' \nab.,!?…。、」")(“1é-—😀')


@given(
    text=LETTERS,
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    boundary=st.sampled_from([SENTENCE, CLAUSE]),
)
def test_cutting_loses_nothing_and_does_not_depend_on_the_pieces(
    text: str, sizes: list[int], boundary: Boundary
) -> None:
    found = phrases(boundary, text, sizes)
    assert "".join(found) == text
    assert found == phrases(boundary, text)


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("Hello wor", "Hello"),
        ("Hello world ", "Hello world"),
        ("Hello", ""),
        ("  Hel", ""),
        ("Hello,\n\tthe", "Hello,"),
        ("你好世", "你好世"),
        ("OK 你好abc", "OK 你好"),
        ("", ""),
    ],
)
def test_words_are_whole_where_the_next_begins(text: str, whole: str) -> None:
    assert text[: whole_words(text)] == whole


@pytest.mark.parametrize(
    "text",
    ["." * 4000, " " * 4000, ". " * 2000, "a" * 4000, "a." * 2000, "a." + " " * 4000, "a" + ") " * 2000],
    ids=range(7),
)
@pytest.mark.slow
def test_no_answer_takes_long(text: str) -> None:
    began = time.process_time()
    phrases(CLAUSE, text)
    for end in range(0, len(text), 40):
        whole_words(text[:end])
    assert time.process_time() - began < 2.0
