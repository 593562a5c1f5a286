"""Formats of others: compiled once, and what is wrong with them said, whatever they do to a parser."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from bise_daemon.errors import Reason, RequestError
from bise_daemon.grammar.compiler import Compiler
from bise_daemon.grammar.format import Format, Kind
from daemon.grammar.conftest import WordTokenizer

pytestmark = pytest.mark.slow  # a process is started


@pytest_asyncio.fixture
async def compiler(tokenizer: WordTokenizer) -> AsyncIterator[Compiler]:
    compiler = Compiler(tokenizer)
    yield compiler
    await compiler.close()


def chain(rules: int) -> str:
    """Each rule names the next: whoever parses that by recursion needs a deep stack."""
    return "start: r0\n" + "\n".join(f'r{each}: "a" r{each + 1}' for each in range(rules)) + f'\nr{rules}: "a"'


def references(count: int) -> str:
    each = {f"d{index}": {"$ref": f"#/$defs/d{index + 1}"} for index in range(count)}
    return json.dumps({"$ref": "#/$defs/d0", "$defs": {**each, f"d{count}": {"type": "string"}}})


_ENDLESS = {"type": "object", "properties": {"x": {"$ref": "#"}}, "required": ["x"], "additionalProperties": False}
HOSTILE = [
    (Kind.LARK, chain(9000), "no deep recursion"),
    (Kind.LARK, "start: " + "(" * 5000 + '"a"' + ")" * 5000, "too deeply nested"),
    (Kind.LARK, "start: start", "no answer of at most"),
    (Kind.LARK, 'start: ("a"{1000000}){1000000}', "no answer of at most"),
    (Kind.REGEX, "(((", "unclosed group"),
    (Kind.REGEX, "(a{1000}){1000}", "no answer of at most"),
    (Kind.REGEX, "(" * 9000 + "a" + ")" * 9000, "invalid regex"),
    (Kind.REGEX, "a" * 200_000, "no answer of at most"),
    (Kind.JSON_SCHEMA, references(6000), "no deep recursion"),
    (Kind.JSON_SCHEMA, json.dumps({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}), "no answer"),
    (Kind.JSON_SCHEMA, json.dumps(_ENDLESS), "no answer of at most"),
    (Kind.JSON_SCHEMA, json.dumps({"oneOf": [{}, {}]}), "oneOf"),
    (Kind.JSON_SCHEMA, json.dumps({"not": {"type": "string"}}), "not"),
    (Kind.JSON_SCHEMA, json.dumps({"type": "array", "minItems": 1_000_000}), "no answer of at most"),
    (Kind.JSON_SCHEMA, json.dumps({"type": "string", "pattern": "^(?=a)b\\1$"}), "regex"),
    (Kind.JSON_SCHEMA, json.dumps({"type": "integer", "minimum": 3, "maximum": 2}), ""),
]


@pytest.mark.timeout(60)
async def test_a_hostile_format_is_refused_with_its_field_and_harms_no_other(compiler: Compiler) -> None:
    for kind, text, problem in HOSTILE:
        with pytest.raises(RequestError) as refusal:
            await compiler.compile(Format(kind, text), 30)
        assert refusal.value.reason is Reason.INVALID_OPTION, text[:80]
        assert refusal.value.numbers == {"field": f"format.{kind}"}
        # Some take as long as they may on a slow machine.
        assert problem in refusal.value.message or "takes more" in refusal.value.message, (
            text[:80],
            refusal.value.message,
        )
        assert len(refusal.value.message) < 700
        assert (await compiler.compile(Format(Kind.JSON_OBJECT), 30)).shortest_tokens == 1


async def test_the_same_format_is_compiled_once(compiler: Compiler) -> None:
    first = await compiler.compile(Format(Kind.REGEX, "[a-z]+"), 30)
    assert await compiler.compile(Format(Kind.REGEX, "[a-z]+"), 30) is first
    first.broken = True
    assert await compiler.compile(Format(Kind.REGEX, "[a-z]+"), 30) is not first


async def test_who_can_not_wait_is_refused_and_it_is_there_the_next_time(compiler: Compiler) -> None:
    form = Format(Kind.REGEX, "[a-z]+")
    with pytest.raises(RequestError, match="expected it to be compiled within 0 ms") as refusal:
        await compiler.compile(form, 0.0)
    assert refusal.value.reason is Reason.BUDGET
    assert refusal.value.retry_after_ms == 1000
    one, other = await asyncio.gather(compiler.compile(form, 30), compiler.compile(form, 30))
    assert one is other


async def test_closing_gives_up_what_is_being_made(compiler: Compiler) -> None:
    making = asyncio.create_task(compiler.compile(Format(Kind.LARK, chain(9000)), 30))
    await asyncio.sleep(0)
    await compiler.close()
    with pytest.raises(asyncio.CancelledError):
        await making


async def test_the_first_ones_go_when_there_are_many(compiler: Compiler) -> None:
    first = await compiler.compile(Format(Kind.REGEX, "a"), 30)
    for count in range(64):
        await compiler.compile(Format(Kind.REGEX, f"b{{{count}}}"), 30)
    assert await compiler.compile(Format(Kind.REGEX, "a"), 30) is not first


async def test_choices_are_texts_as_they_are(compiler: Compiler, tokenizer: WordTokenizer) -> None:
    for texts in (['a "quoted"\n\\', "é🌬️", "\t"], ["</s>"], ["start: x | y"]):
        closing = (await compiler.compile(Format.of_choices(texts), 30)).guide(99).close()
        assert b"".join(map(tokenizer.token_bytes, closing)).decode() in texts
