"""Where a text can be cut for a reader that speaks it. One rule for all languages, without a dictionary of any.

A boundary that is missed costs time; one too many is heard. So what may be none, is none.
"""

# ruff: noqa: RUF001 - punctuation that looks like other punctuation is what this is about
from __future__ import annotations

import re

# Quotes and brackets that close what a sentence ended in. German closes with what English opens with.
_CLOSERS = "\"'\u2019\u201d\u201c»«›)\\]}"
_WIDE_CLOSERS = "\"'\u2019\u201d」』）】〕》〉］｝"
# Full stops of Latin, Arabic, Devanagari, Armenian and Ethiopic; a space follows them.
_ENDS = ".!?…؟۔।॥։።"
# No space follows these.
_WIDE_ENDS = "。！？｡"
_PAUSES = ",;:،؛"
_WIDE_PAUSES = "，、；："

# A paragraph, or an item of a list: the last character of a line.
_LINE = r"\S(?=[^\S\n]*\n)"
_NARROW = rf"(?<![{_ENDS}])(?P<end>[{_ENDS}]++)(?P<closers>[{_CLOSERS}]*+)(?=[^\S\n]++(?P<next>\S))"
_WIDE = "(?<![{ends}])[{ends}]++[{closers}]*+(?=.)"
_PAUSE = rf"(?:[{_PAUSES}][{_CLOSERS}]*+|[)\]}}]|[–—]|(?<=\S )-)(?=\s)"

_SENTENCE = [_LINE, _NARROW, _WIDE.format(ends=_WIDE_ENDS, closers=_WIDE_CLOSERS)]
_CLAUSE = [_LINE, _NARROW, _WIDE.format(ends=_WIDE_ENDS + _WIDE_PAUSES, closers=_WIDE_CLOSERS), _PAUSE]

# Whether a boundary is here can only be seen when something else than these follows; of so many, at most.
_LONGEST_END = 64
_OPEN = f"{_ENDS}{_WIDE_ENDS}{_PAUSES}{_WIDE_PAUSES}{_CLOSERS}{_WIDE_CLOSERS}–—- \t\r\n\u00a0\u202f\u3000".replace(
    "\\", ""
)

_SAYABLE = re.compile(r"\w")
_LAST_WORD = re.compile(r"[^\s\"'(\[{«„\u201c\u2018¿¡]*\Z")
_LONGEST_WORD = 32
# Short words without a vowel (Mr, Nr, vs, т, St), letters with stops between them (e.g, z.B, U.S, т.д), one letter
# (J. S. Bach), and small numbers (3. Mai, 1. first item of a list).
_CONSONANTS = "bcdfghjklmnpqrstvwxzбвгджзйклмнпрстфхцчшщ"
_ABBREVIATION = re.compile(
    rf"(?:[{_CONSONANTS}]{{2,4}}|[^\W\d_]|[^\W\d_]{{1,3}}(?:\.[^\W\d_]{{1,3}})+|\d{{1,2}})", re.I
)
# What stands before names and has a vowel.
_TITLES = frozenset(["prof", "mme", "mlle", "sra", "srta", "ing", "rev", "capt", "fig"])

# Words are whole where another begins; Chinese and Japanese have no spaces between them.
_IDEOGRAPHS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORDS = re.compile(rf".*(?:\S(?=\s)|[{_IDEOGRAPHS}{_WIDE_ENDS}{_WIDE_PAUSES}{_WIDE_CLOSERS}])", re.S)


class Boundary:
    """Finds the first boundary of a text that grows."""

    def __init__(self, patterns: list[str]) -> None:
        self._pattern = re.compile("|".join(patterns), re.S)

    def find(self, text: str, begin: int) -> tuple[int, int]:
        """Where the first phrase of `text` ends.

        Args:
            begin: from where on to look: what the last call for this text gave.

        Returns:
            The phrase's length, 0 if there is none yet; and from where on to look when the text has grown.
        """
        if (sayable := _SAYABLE.search(text)) is None:
            return 0, len(text)
        for found in self._pattern.finditer(text, max(begin, sayable.start())):
            if not (found["end"] and _goes_on(text, found)):
                return found.end(), 0
        return 0, max(0, len(text.rstrip(_OPEN)) - 1, len(text) - _LONGEST_END)


SENTENCE = Boundary(_SENTENCE)
CLAUSE = Boundary(_CLAUSE)


def whole_words(text: str) -> int:
    """How much of a text are whole words, as far as can be seen; the spaces behind the last do not count."""
    found = _WORDS.match(text)
    return found.end() if found and text[: found.end()].strip() else 0


def _goes_on(text: str, found: re.Match[str]) -> bool:
    """Whether a sentence goes on behind what could end it: an abbreviation, or the end of what it quotes."""
    end, small = found["end"], found["next"].islower()
    if end.strip(".…"):
        return small and bool(found["closers"])
    at = found.start("end")
    word = _LAST_WORD.search(text, max(0, at - _LONGEST_WORD), at)
    assert word is not None
    return small or (end == "." and (word[0].lower() in _TITLES or _ABBREVIATION.fullmatch(word[0]) is not None))
