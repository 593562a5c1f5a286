"""What an answer has to be, and how llguidance is told so."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from llguidance import LLMatcher

from bise_daemon.errors import Reason, RequestError

# A schema of 1,000 properties with a sentence each is 100 KB.
MAX_FORMAT_BYTES = 256 << 10
MAX_CHOICES = 1000

# As Python's and Mistral's JSON is spaced, so that what models were trained on is what they may say. With no other
# white space, keys and brackets are forced, and none is spent on layout.
SPACED_JSON = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
    "coerce_one_of": False,
    "lenient": False,
}


class Kind(StrEnum):
    """What a format is written in; the names are those of the proto's fields."""

    JSON_SCHEMA = "json_schema"
    JSON_OBJECT = "json_object"
    REGEX = "regex"
    LARK = "lark"
    CHOICES = "choices"


@dataclass(frozen=True, slots=True)
class Format:
    """A format as it was asked for.

    Attributes:
        text: a JSON Schema, a regular expression, a grammar in llguidance's form of Lark, or a JSON list of choices;
            nothing for JSON_OBJECT.
    """

    kind: Kind
    text: str = ""

    @classmethod
    def of_choices(cls, texts: Sequence[str]) -> Format:
        """One of some texts.

        Raises:
            RequestError: INVALID_OPTION, there are none or too many, or one is empty.
        """
        if not 1 <= len(texts) <= MAX_CHOICES or not all(texts):
            raise invalid(Kind.CHOICES, f"expected 1 to {MAX_CHOICES} texts, none of them empty, got {len(texts)}")
        return cls(Kind.CHOICES, json.dumps(list(texts), ensure_ascii=False))

    def grammar(self) -> str:
        """The format in llguidance's own words; whether they make sense, compiling shows.

        Raises:
            RequestError: INVALID_OPTION, it is too large, or a schema is no JSON.
        """
        if (size_bytes := len(self.text.encode("utf-8", "replace"))) > MAX_FORMAT_BYTES:
            raise invalid(self.kind, f"expected at most {MAX_FORMAT_BYTES} bytes, got {size_bytes}")
        try:
            return _GRAMMARS[self.kind](self.text)
        except ValueError as error:
            raise invalid(self.kind, f"expected JSON, got: {error!s:.300}") from error


def invalid(kind: Kind, problem: str) -> RequestError:
    """A format that can't be had."""
    field = f"format.{kind}"
    return RequestError(
        Reason.INVALID_OPTION, f"{field}: {problem}. Change the format or leave it out.", numbers={"field": field}
    )


def _of_choices(text: str) -> str:
    texts = json.loads(text)
    return LLMatcher.grammar_from_lark("start: " + " | ".join(json.dumps(each, ensure_ascii=False) for each in texts))


_GRAMMARS: dict[Kind, Callable[[str], str]] = {
    Kind.JSON_SCHEMA: lambda text: LLMatcher.grammar_from_json_schema(text, overrides=SPACED_JSON),  # type: ignore[arg-type]
    Kind.JSON_OBJECT: lambda _: LLMatcher.grammar_from_json_schema('{"type": "object"}', overrides=SPACED_JSON),  # type: ignore[arg-type]
    Kind.REGEX: LLMatcher.grammar_from_regex,
    Kind.LARK: LLMatcher.grammar_from_lark,
    Kind.CHOICES: _of_choices,
}
