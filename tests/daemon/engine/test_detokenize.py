"""Text that grows by tokens: never a broken character, never a part of a stop string."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bise_daemon.engine.detokenize import MAX_STOP_CHARS, MAX_STOPS, ByteDetokenizer, StopMatcher
from bise_daemon.errors import Reason, RequestError

pieces = st.lists(st.binary(max_size=4), max_size=20)
stop_strings = st.lists(st.text("ab", min_size=1, max_size=5), max_size=4)


def detokenize(tokens: list[bytes], **options: bool) -> list[str]:
    detokenizer = ByteDetokenizer(tokens.__getitem__, **options)
    return [*(detokenizer.push(index) for index in range(len(tokens))), detokenizer.finish()]


@given(pieces)
def test_pushes_join_to_the_whole_decoding(tokens: list[bytes]) -> None:
    assert "".join(detokenize(tokens)) == b"".join(tokens).decode("utf-8", errors="replace")


@given(st.text(max_size=20), st.data())
def test_valid_text_never_shows_a_replacement_character(text: str, data: st.DataObject) -> None:
    encoded = text.replace("\ufffd", "").encode("utf-8")
    cuts = sorted(data.draw(st.sets(st.integers(0, len(encoded)))) | {0, len(encoded)})
    tokens = [encoded[start:end] for start, end in itertools.pairwise(cuts)]

    assert "\ufffd" not in "".join(detokenize(tokens))


def test_a_character_comes_whole_with_its_last_byte() -> None:
    tokens = [bytes([byte]) for byte in "🤗".encode()]

    assert detokenize(tokens) == ["", "", "", "🤗", ""]


def test_an_unfinished_character_becomes_a_replacement_at_the_end() -> None:
    assert detokenize([b"a", "é".encode()[:1]]) == ["a", "", "\ufffd"]


def test_an_impossible_byte_does_not_hold_back_what_follows() -> None:
    assert detokenize([b"\xe2\x82", b"(", b"\xff", b"x"]) == ["", "\ufffd(", "\ufffd", "x", ""]


@pytest.mark.parametrize(
    ("tokens", "text"),
    [([b" Paris", b" is"], "Paris is"), ([b"", b"", b" ", b"x"], "x"), ([b"  a"], " a"), ([b"a", b" b"], "a b")],
)
def test_only_the_first_space_of_the_text_is_a_word_mark(tokens: list[bytes], text: str) -> None:
    assert "".join(detokenize(tokens, strip_first_space=True)) == text


def first_stop(text: str, stops: list[str]) -> tuple[str, str | None]:
    """The readable definition: the stop string that is complete first, the longest of those."""
    for end in range(len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            longest = max(ending, key=len)
            return text[: end - len(longest)], longest
    return text, None


def match(chunks: list[str], stops: list[str]) -> tuple[str, str | None]:
    matcher, out = StopMatcher(stops), ""
    for chunk in chunks:
        text, stop = matcher.push(chunk)
        out += text
        if stop is not None:
            return out, stop
    return out + matcher.flush(), None


@given(st.lists(st.text("ab", max_size=4), max_size=10), stop_strings)
def test_stops_are_found_as_in_the_whole_text(chunks: list[str], stops: list[str]) -> None:
    assert match(chunks, stops) == first_stop("".join(chunks), stops)


@given(st.lists(st.text("ab", max_size=4), max_size=10), stop_strings)
def test_exactly_what_could_become_a_stop_is_held_back(chunks: list[str], stops: list[str]) -> None:
    matcher, seen, out = StopMatcher(stops), "", ""
    for chunk in chunks:
        text, stop = matcher.push(chunk)
        if stop is not None:
            return
        seen, out = seen + chunk, out + text
        beginnings = {stop[:length] for stop in stops for length in range(1, len(stop))}
        held = max((len(beginning) for beginning in beginnings if seen.endswith(beginning)), default=0)
        assert out == seen[: len(seen) - held]


def test_a_stop_spans_token_borders() -> None:
    matcher = StopMatcher(["\nUser:"])

    assert [matcher.push(text) for text in ("Hi\n", "Us", "er: x")] == [("Hi", None), ("", None), ("", "\nUser:")]


def test_a_false_start_is_given_back() -> None:
    matcher = StopMatcher(["</s>"])

    assert [matcher.push(text) for text in ("a <", "/", "b")] == [("a ", None), ("", None), ("</b", None)]


def test_without_stops_nothing_is_held() -> None:
    assert StopMatcher([]).push("anything") == ("anything", None)


@pytest.mark.parametrize("stops", [[""], ["x" * (MAX_STOP_CHARS + 1)], ["x"] * (MAX_STOPS + 1)])
def test_unbounded_stops_are_refused(stops: list[str]) -> None:
    with pytest.raises(RequestError, match=r"stop.*expected.*got") as refusal:
        StopMatcher(stops)
    assert refusal.value.reason is Reason.INVALID_OPTION
