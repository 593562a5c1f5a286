"""An answer kept to its format: by a model that says anything at all, ended at any moment."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from bise_daemon.errors import Reason, RequestError
from bise_daemon.grammar.grammar import Grammar, GrammarGuide
from daemon.grammar.conftest import Compile, WordTokenizer, text_of
from schemas import SCHEMAS, closed


def allowed(guide: GrammarGuide, tokenizer: WordTokenizer) -> set[bytes]:
    return {tokenizer.token_bytes(int(token)) for token in np.flatnonzero(guide.allowed(tokenizer.vocab_size))}


def test_only_what_the_format_allows_may_come_next(compiled: Compile, tokenizer: WordTokenizer) -> None:
    guide = compiled(regex="(name|age)*").guide(9)
    assert allowed(guide, tokenizer) == {b"n", b"name", b"a", b"age", b"</s>"}
    assert text_of(tokenizer, list(guide.take(ord("a")).tokens)) == "age"  # nothing else can follow


def test_padding_of_the_models_vocabulary_is_never_allowed(compiled: Compile, tokenizer: WordTokenizer) -> None:
    mask = compiled(regex=".*").guide(9).allowed(tokenizer.vocab_size + 100)
    assert mask.shape == (tokenizer.vocab_size + 100,)
    assert not mask[tokenizer.vocab_size :].any()


def test_what_must_follow_follows(compiled: Compile, tokenizer: WordTokenizer) -> None:
    guide = compiled(json_schema=closed({"name": {"type": "string"}, "age": {"type": "integer"}})).guide(40)
    course = guide.take(tokenizer.encode("{")[0])
    assert text_of(tokenizer, list(course.tokens)) == '{"name'  # a longer word may begin with what comes next
    assert course.forced == len(course.tokens) - 1
    assert not course.ends


def test_an_answer_that_can_go_no_further_ends_without_the_models_word(
    compiled: Compile, tokenizer: WordTokenizer
) -> None:
    guide = compiled(choices='["true", "null"]').guide(9)
    course = guide.take(tokenizer.encode("true")[0])
    assert (list(course.tokens), course.ends, course.closed_early) == (tokenizer.encode("true"), True, False)
    assert list(guide.close()) == []


def test_the_models_end_is_none_of_the_answer(compiled: Compile, tokenizer: WordTokenizer) -> None:
    guide = compiled(regex="a*").guide(9)
    guide.take(ord("a"))
    course = guide.take(tokenizer.EOS)
    assert (list(course.tokens), course.ends) == ([], True)


def test_what_would_leave_no_room_to_close_is_not_said(compiled: Compile, tokenizer: WordTokenizer) -> None:
    grammar = compiled(json_schema={"type": "array", "items": {"type": "string"}})
    guide = grammar.guide(4)
    assert guide.take(ord("[")).tokens == [ord("[")]
    assert guide.take(tokenizer.encode('"')[0]).tokens == tokenizer.encode('"')
    course = guide.take(tokenizer.encode("wind")[0])
    assert (course.ends, course.closed_early) == (True, True)
    assert text_of(tokenizer, list(course.tokens)) == '"]'


def test_special_tokens_are_part_of_a_grammar_that_names_them(compiled: Compile, tokenizer: WordTokenizer) -> None:
    grammar = compiled(lark='start: <CALL> %json {"type": "object", "properties": {}, "additionalProperties": false}')
    assert grammar.shortest_tokens == 2
    guide = grammar.guide(9)
    assert allowed(guide, tokenizer) == {b"[CALL]"}
    assert guide.take(tokenizer.CALL).tokens[0] == tokenizer.CALL
    assert allowed(guide, tokenizer) == {b"{", b"{}"}
    assert guide.take(tokenizer.encode("{}")[0]).ends


def test_text_that_spells_a_special_token_stays_text(compiled: Compile, tokenizer: WordTokenizer) -> None:
    grammar = compiled(choices='["</s>[CALL]"]')
    tokens = grammar.guide(99).close()
    assert not tokenizer.special_ids.intersection(tokens)
    assert text_of(tokenizer, list(tokens)) == "</s>[CALL]"


def test_a_grammar_that_breaks_on_the_way_ends_its_answer_by_name(compiled: Compile, tokenizer: WordTokenizer) -> None:
    grammar = compiled(regex="a*")
    with pytest.raises(RequestError, match="format: expected a grammar that can be followed") as failure:
        grammar.guide(9).take(ord("b"))
    assert failure.value.reason is Reason.ENGINE_FAILED
    assert grammar.broken


def test_answers_share_nothing_but_the_grammar(compiled: Compile, tokenizer: WordTokenizer) -> None:
    grammar = compiled(regex="ab*c")
    one, other = grammar.guide(9), grammar.guide(9)
    one.take(ord("a"))
    assert allowed(other, tokenizer) == {b"a"}


@pytest.mark.slow
@pytest.mark.parametrize("index", range(len(SCHEMAS)))
def test_whatever_a_model_says_and_whenever_it_is_stopped_the_answer_validates(
    index: int, compiled: Compile, tokenizer: WordTokenizer
) -> None:
    grammar, random = compiled(json_schema=SCHEMAS[index]), np.random.default_rng(index)
    validator = Draft202012Validator(SCHEMAS[index])
    for _ in range(8):
        max_tokens = grammar.shortest_tokens + int(random.integers(0, 60))
        tokens = random_answer(grammar, tokenizer, random, max_tokens, stopped_after=int(random.integers(0, 90)))
        assert len(tokens) <= max_tokens
        validator.validate(json.loads(text_of(tokenizer, tokens)))


@pytest.mark.slow
@pytest.mark.parametrize("regex", [r"(yes|no), [a-z]+\.", r"\d{3}-[A-F0-9]{2,}", r"(ab|cd){2,5}x?", r"[^ ]+ [^ ]+!"])
def test_so_does_a_text(regex: str, compiled: Compile, tokenizer: WordTokenizer) -> None:
    grammar, random = compiled(regex=regex), np.random.default_rng(len(regex))
    for stopped_after in range(20):
        tokens = random_answer(grammar, tokenizer, random, grammar.shortest_tokens + 12, stopped_after)
        assert re.fullmatch(regex, text_of(tokenizer, tokens))


def random_answer(
    grammar: Grammar, tokenizer: WordTokenizer, random: np.random.Generator, max_tokens: int, stopped_after: int
) -> list[int]:
    """What a model says that has no preference at all."""
    guide, tokens = grammar.guide(max_tokens), list[int]()
    for _ in range(stopped_after):
        course = guide.take(int(random.choice(np.flatnonzero(guide.allowed(tokenizer.vocab_size)))))
        tokens += course.tokens
        if course.ends:
            return tokens
        if len(tokens) == max_tokens:
            break
    return [*tokens, *guide.close()]
