from __future__ import annotations

import pytest

from bise_daemon.errors import Reason, RequestError
from bise_daemon.grammar.format import MAX_CHOICES, MAX_FORMAT_BYTES, Format, Kind


@pytest.mark.parametrize("texts", [[], ["a", ""], ["a"] * (MAX_CHOICES + 1)])
def test_choices_are_some_texts_and_not_too_many(texts: list[str]) -> None:
    with pytest.raises(RequestError, match=r"format\.choices: expected 1 to 1000 texts") as refusal:
        Format.of_choices(texts)
    assert (refusal.value.reason, refusal.value.numbers) == (Reason.INVALID_OPTION, {"field": "format.choices"})


@pytest.mark.parametrize("kind", [Kind.JSON_SCHEMA, Kind.REGEX, Kind.LARK])
def test_a_megabyte_is_refused_before_anybody_reads_it(kind: Kind) -> None:
    with pytest.raises(RequestError, match=f"format.{kind}: expected at most {MAX_FORMAT_BYTES} bytes, got 1000000"):
        Format(kind, "x" * 1_000_000).grammar()


@pytest.mark.parametrize("text", ["", "{x", '"text"', '{"type":"array","items":' * 5000 + "{}" + "}" * 5000])
def test_a_schema_is_json_of_moderate_depth(text: str) -> None:
    with pytest.raises(RequestError, match=r"format\.json_schema: expected JSON, got: "):
        Format(Kind.JSON_SCHEMA, text).grammar()
