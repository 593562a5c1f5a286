"""Calls and text are told apart the same way, however an answer is cut."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bise_daemon.chat.calls.call import CallDelta, Found, MalformedCall, Terms
from bise_daemon.chat.calls.llama import PYTHON_TAG, LlamaCalls
from bise_daemon.chat.calls.mistral import ARGS, CALL_ID, CALLS, ListedCalls, NamedCalls
from bise_daemon.chat.calls.parser import CallParser
from bise_daemon.chat.calls.tagged import TaggedCalls

MARKS = (CALLS, CALL_ID, ARGS, PYTHON_TAG)
Call = tuple[str, str, str]
F, G = ("000000000", "f", '{"x": 1}'), ("000000001", "g", "{}")


@dataclass
class Answer:
    """What a reader found: text, whole calls as (id, name, arguments), and problems by their texts."""

    text: str
    calls: list[Call]
    problems: dict[str, str]
    whole_calls: int


def parser(kind: type[CallParser], *, single: bool = False, tools: Sequence[str] = ("f", "g")) -> CallParser:
    numbers = count()
    return kind(Terms(frozenset(tools), single, lambda: f"{next(numbers):09d}"), {})


def read(target: CallParser, pieces: Sequence[str]) -> Answer:
    """Feeds pieces of an answer, of which those that are marks come as marks."""
    found: list[Found] = []
    for piece in pieces:
        found += target.mark(piece) if piece in MARKS else target.push(piece)
    return collected([*found, *target.finish()], target.whole_calls)


def collected(found: Sequence[Found], whole_calls: int) -> Answer:
    """What deltas come to, with those of malformed calls void."""
    begun: dict[int, CallDelta] = {}
    arguments: dict[int, str] = defaultdict(str)
    for each in found:
        if isinstance(each, CallDelta):
            assert (each.index in begun) == (not each.name), "the name comes first, and once"
            begun.setdefault(each.index, each)
            arguments[each.index] += each.arguments
    malformed = [each for each in found if isinstance(each, MalformedCall)]
    for each in malformed:
        if each.index is not None:
            del begun[each.index]
    return Answer(
        "".join(each for each in found if isinstance(each, str)),
        [(first.id, first.name, arguments[index]) for index, first in begun.items()],
        {each.text: each.problem for each in malformed},
        whole_calls,
    )


NESTED = '{"a": {"b": [1, -2.5e3, null, true, "}]\\"{"]}, "": "é🤗\\u00e9"}'
WELL_FORMED = [
    (NamedCalls, ["The bise blows {}."], "The bise blows {}.", []),
    (NamedCalls, [CALLS, "f", ARGS, '{"x": 1}'], "", [F]),
    (NamedCalls, ["Let me see. ", CALLS, "f", ARGS, '{"x": 1}', CALLS, "g", ARGS, " {} \n"], "Let me see. ", [F, G]),
    (NamedCalls, [CALLS, "f", CALL_ID, "VvvODy9mT", ARGS, NESTED], "", [("VvvODy9mT", "f", NESTED)]),
    (NamedCalls, [CALLS, "f", CALL_ID, "call_1", ARGS, '{"x": 1}'], "", [F]),
    (ListedCalls, [CALLS, '[{"name": "f", "arguments": {"x": 1}}]'], "", [F]),
    (ListedCalls, [CALLS, ' [{"name":"f","arguments":{"x": 1}},\n{"arguments":{},"name":"g"} ] '], "", [F, G]),
    (ListedCalls, [CALLS, '[{"id": "VvvODy9mT", "name": "f", "arguments": {}}]'], "", [("VvvODy9mT", "f", "{}")]),
    (ListedCalls, [CALLS, "[]"], "", []),
    (TaggedCalls, ["<b>bold</b> <tool> <tool_call"], "<b>bold</b> <tool> <tool_call", []),
    (TaggedCalls, ['<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>'], "", [F]),
    (
        TaggedCalls,
        [
            'I look.\n\n<tool_call>{"name": "f", "arguments": {"x": 1}}</tool_call>\n',
            '<tool_call>\n{"arguments": {}, "name": "g"}\n</tool_call>\nDone.\n',
        ],
        "I look.Done.\n",
        [F, G],
    ),
    (TaggedCalls, ['<<tool_call>{"name": "f", "arguments": {"x": 1}}'], "<", [F]),
    (LlamaCalls, ["\nIt is {windy}."], "\nIt is {windy}.", []),
    (LlamaCalls, ['{"name": "f", "parameters": {"x": 1}}'], "", [F]),
    (LlamaCalls, [PYTHON_TAG, '{"name": "f", "parameters": {"x": 1}}; {"name": "g", "parameters": {}}'], "", [F, G]),
    (LlamaCalls, ['{"type": "function", "name": "f", "parameters": {"x": 1}}'], "", [F]),
    (LlamaCalls, [' {"name": "Ann", "age": 7}'], ' {"name": "Ann", "age": 7}', []),
    (LlamaCalls, ['{"city": "Bern"'], '{"city": "Bern"', []),
    (LlamaCalls, ["{ok} then"], "{ok} then", []),
]


@pytest.mark.parametrize(("kind", "pieces", "text", "calls"), WELL_FORMED)
@settings(max_examples=20)
@given(data=st.data())
def test_calls_are_found_however_an_answer_is_cut(
    kind: type[CallParser], pieces: list[str], text: str, calls: list[Call], data: st.DataObject
) -> None:
    cut: list[str] = []
    for piece in pieces:
        places = data.draw(st.sets(st.integers(1, len(piece)))) if piece not in MARKS else ()
        borders = [0, *sorted(places), len(piece)]
        cut += [piece[start:end] for start, end in pairwise(borders)]
    answer = read(parser(kind), cut)
    assert answer == Answer(text, calls, {}, len(calls))


MALFORMED = [
    (NamedCalls, [CALLS, "h", ARGS, "{}"], [], f"{CALLS}h{ARGS}{{}}", "expected one of the tools (f, g), got 'h'"),
    (NamedCalls, [CALLS, "f", ARGS, '{"x": }'], [], f'{CALLS}f{ARGS}{{"x": }}', "expected JSON, got: Expecting value"),
    (NamedCalls, [CALLS, "f", ARGS, '{"x"'], [], f'{CALLS}f{ARGS}{{"x"', "got the end of the answer"),
    (NamedCalls, [CALLS, "f", ARGS, "[1]"], [], f"{CALLS}f{ARGS}[1]", "expected arguments as a JSON object, got ["),
    (NamedCalls, [CALLS, "f", ARGS, "{} and"], [], f"{CALLS}f{ARGS}{{}} and", "expected nothing behind a call, got a"),
    (NamedCalls, [CALLS, 'f{"x": 1}'], [], f'{CALLS}f{{"x": 1}}', "expected [ARGS], got the end of the answer"),
    (NamedCalls, [CALLS, "f", ARGS, "{", CALLS, "g", ARGS, "{}"], [G], f"{CALLS}f{ARGS}{{", "got [TOOL_CALLS]"),
    (NamedCalls, [CALLS, "f", ARGS, '{"a":' * 70], [], None, "expected JSON of at most 64 levels"),
    (NamedCalls, [CALLS, "f", ARGS, '{"x": NaN}'], [], None, "NaN, which is no JSON"),
    (ListedCalls, [CALLS, '{"name": "f"}'], [], f'{CALLS}{{"name": "f"}}', "expected [, got {"),
    (ListedCalls, [CALLS, '[{"name": "f"}]'], [], None, "got no arguments"),
    (ListedCalls, [CALLS, '[{"arguments": {}}]'], [], None, "got no name"),
    (ListedCalls, [CALLS, '[{"name": "f", "arguments": "{}"}]'], [], None, "expected arguments as a JSON object"),
    (ListedCalls, [CALLS, '[{"name": "f", "arguments": {"x": 1}} {'], [F], None, "expected ,, got {"),
    (ListedCalls, [CALLS, '[{"name": ["f"], "arguments": {}}]'], [], None, "expected a string, got ["),
    (TaggedCalls, ["<tool_call>f(x)</tool_call>"], [], "<tool_call>f(x)</tool_call>", "expected {, got f"),
    (TaggedCalls, ['<tool_call>{"name": "h", "arguments": {}}</tool_call>'], [], None, "got 'h'"),
    (LlamaCalls, ['{"name": "h", "parameters": {}}'], [], '{"name": "h", "parameters": {}}', "got 'h'"),
    (LlamaCalls, ['{"name": "f", "parameters": {"x": 1'], [], None, "got the end of the answer"),
    (LlamaCalls, [PYTHON_TAG, "print(1)"], [], f"{PYTHON_TAG}print(1)", "expected {, got p"),
]


@pytest.mark.parametrize(("kind", "pieces", "calls", "text", "problem"), MALFORMED)
def test_what_is_no_call_is_told_as_such_and_never_as_text(
    kind: type[CallParser], pieces: list[str], calls: list[Call], text: str | None, problem: str
) -> None:
    answer = read(parser(kind), pieces)
    assert (answer.text, answer.calls, answer.whole_calls) == ("", calls, len(calls))
    ((told, why),) = answer.problems.items()
    assert told == (text or "".join(pieces))
    assert problem in why


@pytest.mark.slow
@pytest.mark.parametrize("kind", [NamedCalls, ListedCalls, TaggedCalls, LlamaCalls])
@given(
    pieces=st.lists(
        st.sampled_from([*MARKS, "<tool_call>", "</tool_call>", '{"name": "f", ', '"arguments": ', "{", "}", "[", "]"])
        | st.text(max_size=8)
    )
)
def test_no_answer_breaks_a_parser_and_whole_calls_are_objects(kind: type[CallParser], pieces: list[str]) -> None:
    answer = read(parser(kind), pieces)
    assert len(answer.calls) == answer.whole_calls
    again = read(parser(kind), [piece for part in pieces for piece in ([part] if part in MARKS else part)])
    assert answer == again


@pytest.mark.parametrize(
    ("kind", "pieces"),
    [
        (NamedCalls, [CALLS, "f", ARGS, '{"x": 1}', CALLS, "g", ARGS, "{}"]),
        (ListedCalls, [CALLS, '[{"name": "f", "arguments": {"x": 1}}, {"name": "g", "arguments": {}}]']),
        (TaggedCalls, ['<tool_call>{"name": "f", "arguments": {"x": 1}}</tool_call> and']),
        (LlamaCalls, ['{"name": "f", "parameters": {"x": 1}}; {"name": "g", "parameters": {}}']),
    ],
)
def test_an_answer_of_a_single_call_ends_with_it(kind: type[CallParser], pieces: list[str]) -> None:
    target = parser(kind, single=True)
    answer = read(target, pieces)
    assert answer == Answer("", [F], {}, 1)
    assert target.ended


def test_the_name_comes_before_the_arguments_and_these_as_they_come() -> None:
    target = parser(NamedCalls)
    target.mark(CALLS)
    assert target.push("f") == []
    assert target.mark(ARGS) == [CallDelta(0, "000000000", "f")]
    assert target.push('{"x"') == [CallDelta(0, arguments='{"x"')]
    assert target.push(": 1}") == [CallDelta(0, arguments=": 1}")]


def test_an_id_is_taken_once() -> None:
    one = [CALLS, "f", CALL_ID, "VvvODy9mT", ARGS, '{"x": 1}']
    assert [call_id for call_id, _, _ in read(parser(NamedCalls), [*one, *one]).calls] == ["VvvODy9mT", "000000000"]


def test_where_none_may_be_called_a_call_is_malformed() -> None:
    answer = read(parser(TaggedCalls, tools=()), ['<tool_call>{"name": "f", "arguments": {}}</tool_call>'])
    assert list(answer.problems.values()) == ["expected one of the tools (no tool: none may be called), got 'f'"]
