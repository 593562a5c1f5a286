"""What a PromQL expression names; enough of the language for the ones in deploy/monitoring."""

from __future__ import annotations

import re
from dataclasses import dataclass

_WORD = r"[a-zA-Z_:][\w:]*"
_TEXT = re.compile(r'"[^"]*"')
_SELECTOR = re.compile(rf"({_WORD})\{{([^}}]*)\}}")
_MATCHER = re.compile(rf'\s*({_WORD})\s*(=~|=)\s*"([^"]*)"\s*')
_GROUPING = re.compile(r"\bby\s*\(([^)]*)\)")
_RANGE = re.compile(r"\[[^\]]*\]")
_NAME = re.compile(rf"(?<![\w.])({_WORD})(?!\s*\()(?![\w:])")
_OPERATORS = {"or", "and", "unless"}


@dataclass(frozen=True, slots=True)
class Named:
    """Attributes:
    metrics: every name that stands where a metric can.
    matchers: of these, the metric, the label, and the values it may have.
    grouping: labels that results are summed by.
    """

    metrics: frozenset[str]
    matchers: tuple[tuple[str, str, tuple[str, ...]], ...]
    grouping: frozenset[str]


def named(expression: str) -> Named:
    """What an expression names."""
    matchers = tuple(
        (selector[1], matcher[1], tuple(matcher[3].split("|")) if matcher[2] == "=~" else (matcher[3],))
        for selector in _SELECTOR.finditer(expression)
        for matcher in _MATCHER.finditer(selector[2])
    )
    grouping = frozenset(
        label.strip() for group in _GROUPING.finditer(expression) for label in group[1].split(",") if label.strip()
    )
    bare = expression
    for pattern, kept in ((_SELECTOR, r"\1 "), (_RANGE, " "), (_GROUPING, " "), (_TEXT, " ")):
        bare = pattern.sub(kept, bare)
    return Named(frozenset(_NAME.findall(bare)) - _OPERATORS, matchers, grouping)
