"""Pieces held back until a phrase is whole, with the tokens they came from."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bise_daemon.chat.calls.call import CallDelta
from bise_daemon.engine.generation import Piece
from bise_daemon.engine.sampling import Choice
from bise_daemon.phrases.boundary import CLAUSE, SENTENCE
from bise_daemon.phrases.phraser import Phraser


def piece(text: str, token: int) -> Piece:
    return Piece(text, Choice(token, -0.5))


def push_all(phraser: Phraser, texts: list[str], now: float = 0.0) -> list[tuple[str, list[int]]]:
    """What comes of these tokens, numbered from 0, without what is left."""
    found = []
    for token, text in enumerate(texts):
        phraser.push(piece(text, token), now)
        while phrase := phraser.next_phrase(now):
            found.append(said(phrase))
    return found


def said(phrase: list[Piece]) -> tuple[str, list[int]]:
    return "".join(each.text for each in phrase), [each.choice.token_id for each in phrase if each.choice]


def test_a_token_comes_with_the_phrase_its_text_begins_in() -> None:
    phraser = Phraser(SENTENCE, None)
    found = push_all(phraser, ["Hi", ".", " How", " are", " you?\n", "Fine", ". Ok"])
    assert found == [("Hi.", [0, 1]), (" How are you?", [2, 3, 4]), ("\nFine.", [5, 6])]
    assert said(phraser.rest()) == (" Ok", [])


def test_a_token_whose_text_comes_later_goes_with_that_text() -> None:
    phraser = Phraser(SENTENCE, None)
    assert push_all(phraser, ["Hi", ".", "", " 你"]) == [("Hi.", [0, 1])]
    assert said(phraser.rest()) == (" 你", [2, 3])


def test_log_probabilities_stay_with_their_tokens() -> None:
    phraser = Phraser(CLAUSE, None)
    phraser.push(piece("No, no", 7), 0.0)
    (first,) = phraser.next_phrase(0.0)
    assert first == Piece("No,", Choice(7, -0.5))
    assert phraser.rest() == [Piece(" no", None)]


def test_calls_of_tools_do_not_wait() -> None:
    phraser = Phraser(SENTENCE, None)
    call = CallDelta(0, "a", "look")
    assert push_all(phraser, ["I", " look"]) == []
    phraser.push(Piece("", None, [call]), 0.0)
    phraser.push(Piece("", None, [CallDelta(0, arguments="{}")]), 0.0)
    *said_before, first, second = phraser.next_phrase(0.0)
    assert said(said_before) == ("I look", [0, 1])
    assert [*first.calls, *second.calls] == [call, CallDelta(0, arguments="{}")]
    assert phraser.next_phrase(0.0) == []


def test_words_that_have_waited_long_enough_go() -> None:
    phraser = Phraser(SENTENCE, 100.0)
    assert phraser.due_ms is None
    phraser.push(piece("Once", 0), 1000.0)
    assert phraser.due_ms is None  # perhaps not a whole word
    phraser.push(piece(" upon", 1), 1040.0)
    assert phraser.due_ms == 1100.0
    assert phraser.next_phrase(1099.0) == []
    assert said(phraser.next_phrase(1100.0)) == ("Once", [0])
    phraser.push(piece(" a", 2), 1120.0)
    assert phraser.due_ms == 1140.0
    assert said(phraser.next_phrase(1300.0)) == (" upon", [1])
    assert phraser.due_ms is None
    assert said(phraser.rest()) == (" a", [2])


def test_a_word_that_is_late_goes_as_soon_as_it_is_whole() -> None:
    phraser = Phraser(SENTENCE, 100.0)
    phraser.push(piece("Donau", 0), 0.0)
    phraser.push(piece("dampf", 1), 500.0)
    assert phraser.next_phrase(500.0) == []
    phraser.push(piece(" der", 2), 600.0)
    assert said(phraser.next_phrase(600.0)) == ("Donaudampf", [0, 1])


def test_without_a_longest_wait_words_wait() -> None:
    phraser = Phraser(SENTENCE, None)
    assert push_all(phraser, ["Once", " upon", " a"], now=1e9) == []
    assert phraser.due_ms is None


@given(
    texts=st.lists(st.text(alphabet=" \nab.,!。“", max_size=5), max_size=20),
    steps=st.lists(st.sampled_from([0.0, 30.0, 150.0]), min_size=20, max_size=20),
    wait=st.sampled_from([None, 100.0]),
)
def test_nothing_is_lost_and_nothing_changes_places(texts: list[str], steps: list[float], wait: float | None) -> None:
    phraser, now, pieces = Phraser(CLAUSE, wait), 0.0, list[Piece]()
    for token, text in enumerate(texts):
        now += steps[token]
        phraser.push(piece(text, token), now)
        while phrase := phraser.next_phrase(now):
            assert "".join(each.text for each in phrase).strip()
            pieces += phrase
    pieces += phraser.rest()
    assert said(pieces) == ("".join(texts), list(range(len(texts))))
    assert phraser.rest() == []
