"""Short ends, from the beginning of a format and from the middle of one."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from llguidance import LLMatcher

from bise_daemon.grammar.closing import TRIES_APART, find_closing, rest_of_closing
from bise_daemon.grammar.format import Format, Kind
from bise_daemon.grammar.limits import LIMITS
from bise_daemon.grammar.spelling import spelling
from schemas import closed, listing


def matcher(kind: Kind, text: str, said: str = "") -> LLMatcher:
    made = LLMatcher(spelling([]), Format(kind, text).grammar(), log_level=0, limits=LIMITS)
    assert made.consume_tokens(list(said.encode())), made.get_error()
    return made


def closing(kind: Kind, text: str, said: str = "") -> str:
    found = find_closing(matcher(kind, text, said), TRIES_APART)
    assert found is not None
    return bytes(found).decode()


@pytest.mark.parametrize(
    ("schema", "said", "end"),
    [
        ({"type": "object"}, "", "{}"),
        ({"type": "object"}, '{"a": [1, {"b": "c', '"}]}'),
        ({"type": "string"}, '"so', '"'),
        ({"type": "string"}, '"so\\', 'f"'),
        ({"type": "string", "minLength": 3}, '"s', 'aa"'),
        (closed({"a": {"type": "string"}, "b": {"type": "integer"}}), '{"a": "x', '", "b": 1}'),
        (listing({"const": True}, minItems=3), "[tr", "ue, true, true]"),
        ({"enum": ["red", "green"]}, '"g', 'reen"'),
        ({"type": "integer", "minimum": 100}, "", "112"),
        ({"type": "number", "exclusiveMinimum": 0}, "0.0", "1"),
        ({"type": ["string", "null"], "minLength": 4}, "", "null"),
    ],
)
def test_of_json(schema: dict[str, Any], said: str, end: str) -> None:
    assert closing(Kind.JSON_SCHEMA, json.dumps(schema), said) == end


def test_what_can_nest_for_ever_is_not_nested_further() -> None:
    node = closed({"value": {"type": "number"}, "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}})
    schema = json.dumps({"$ref": "#/$defs/node", "$defs": {"node": node}})
    assert closing(Kind.JSON_SCHEMA, schema, '{"value": 7, "next": {"va') == 'lue": 1, "next": null}}'


@pytest.mark.parametrize(
    ("regex", "most_bytes"),
    [("(ab|cd)*x", 5), ("[A-Z]{2}-[0-9]{2}", 5), ("[^>]*>", 1), ("(a|b)*b{3}c", 4), (r"[^ ]+ [^ ]+!", 80)],
)
def test_of_other_formats(regex: str, most_bytes: int) -> None:
    found = closing(Kind.REGEX, regex)
    assert re.fullmatch(regex, found)
    assert len(found) <= most_bytes


def test_of_a_grammar_that_is_ambiguous_and_recursive() -> None:
    lark = 'start: sum\nsum: sum "+" sum | "(" sum ")" | NUMBER\nNUMBER: /[0-9]+/'
    assert closing(Kind.LARK, lark, "(1+(2") == "))"
    assert closing(Kind.LARK, lark, "(1+") == "1)"


@pytest.mark.parametrize("lark", ["start: start", "start: a\na: b\nb: a", 'start: "a" start'])
def test_what_never_ends_has_none(lark: str) -> None:
    assert find_closing(matcher(Kind.LARK, lark), TRIES_APART) is None


def test_what_was_said_is_no_longer_needed() -> None:
    schema = json.dumps(closed({"a": {"type": "string"}, "b": {"type": "integer"}}))
    end = list(b'", "b": 1}')
    for said, rest in (
        ('{"a": "x', b'", "b": 1}'),
        ('{"a": "x wind', b'", "b": 1}'),
        ('{"a": "x", ', b'"b": 1}'),
        ('{"a": "x", "b": 4', b"}"),
        ('{"a": "x", "b": 4}', b""),
    ):
        found = rest_of_closing(matcher(Kind.JSON_SCHEMA, schema, said), end)
        assert found is not None
        assert bytes(found)[-len(rest) :] == rest
        assert matcher(Kind.JSON_SCHEMA, schema, said + bytes(found).decode()).is_accepting()
    assert rest_of_closing(matcher(Kind.JSON_SCHEMA, schema, "{"), list(b"}")) is None
