"""Answers that a calls' grammar allows are calls that a parser reads, with arguments as their schemas say."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import jsonschema
import numpy as np
import pytest
from llguidance import LLMatcher

from bise_daemon.chat.calls.call import CallDelta, MalformedCall, Terms
from bise_daemon.chat.calls.lark import grammar_of
from bise_daemon.chat.calls.llama import LlamaCalls
from bise_daemon.chat.calls.parser import CallParser
from bise_daemon.chat.calls.tagged import TaggedCalls
from bise_daemon.chat.json_tokenizer import JsonTokenizer
from bise_daemon.chat.tool import Tool
from bise_daemon.engine.detokenize import StopMatcher
from bise_daemon.engine.generation import Generation
from bise_daemon.engine.sampling import Sampler, SamplingParams
from bise_daemon.grammar.calls import BegunCalls
from bise_daemon.grammar.closing import TRIES_APART, find_closing
from bise_daemon.grammar.compiler import compile_format
from bise_daemon.grammar.format import Format, Kind
from bise_daemon.grammar.grammar import Grammar
from bise_daemon.grammar.vocabulary import Vocabulary

TOOLS = [
    Tool("clock"),
    Tool(
        "weather",
        "",
        {
            "type": "object",
            "properties": {
                "place": {"$ref": "#/$defs/place"},
                "days": {"type": "integer", "minimum": 1, "maximum": 9},
                "units": {"type": "array", "items": {"enum": ["C", "K"]}, "maxItems": 2},
            },
            "required": ["place"],
            "$defs": {"place": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 5}}}},
        },
    ),
]
MAX_TOKENS = 200


def compiled(tokenizer: JsonTokenizer, kind: type[CallParser]) -> Grammar:
    vocabulary = Vocabulary(tokenizer)
    form = Format(Kind.LARK, grammar_of(kind, TOOLS, single=False))
    closing = find_closing(LLMatcher(vocabulary.bytes, form.grammar()), TRIES_APART)
    assert closing is not None
    return compile_format(form, vocabulary, closing)


def answered(
    tokenizer: JsonTokenizer, kind: type[CallParser], guide: Any, seed: int, text: str = ""
) -> tuple[list[Any], Generation]:
    """What an engine makes of a model that says some text and anything from there on."""
    parser = kind(Terms(frozenset(tool.name for tool in TOOLS), single=False), {})
    sampler = Sampler(SamplingParams(temperature=1.0, seed=seed), [1])
    generation = Generation(sampler, tokenizer.detokenizer(), StopMatcher([]), tokenizer.eos_token_ids, guide, parser)
    rng = np.random.default_rng(seed)
    said, tokens, pieces, stopped = tokenizer.encode(text, add_bos=False), 0, [], False
    while not stopped and tokens < MAX_TOKENS:
        logits = rng.normal(size=tokenizer.vocab_size).astype(np.float32)
        if said:
            logits[said.pop(0)] = 1e9
        growth = generation.accept_all(logits[None])
        tokens, stopped = tokens + len(growth.tokens), growth.stopped
        pieces += growth.pieces
    assert tokens <= MAX_TOKENS
    pieces += [] if stopped else generation.close()
    return [*pieces, generation.finish()], generation


def check(pieces: list[Any]) -> int:
    """Proves the arguments of every call; how many there are."""
    names: dict[int, str] = {}
    arguments: dict[int, str] = defaultdict(str)
    for call in (call for piece in pieces for call in piece.calls):
        assert isinstance(call, CallDelta), call
        names.setdefault(call.index, call.name)
        arguments[call.index] += call.arguments
    schemas = {tool.name: dict(tool.parameters) for tool in TOOLS}
    for index, name in names.items():
        jsonschema.validate(json.loads(arguments[index]), schemas[name])
    return len(names)


@pytest.mark.parametrize("kind", [TaggedCalls, LlamaCalls])
def test_required_calls_are_read_whole_and_validate(
    byte_level_tokenizer: JsonTokenizer, kind: type[CallParser]
) -> None:
    grammar = compiled(byte_level_tokenizer, kind)
    for seed in range(20):
        pieces, generation = answered(byte_level_tokenizer, kind, grammar.guide(MAX_TOKENS), seed)
        assert check(pieces) >= 1
        assert generation.made_calls
        assert "".join(piece.text for piece in pieces) == ""


def test_a_call_that_is_begun_is_held_to_its_schema(byte_level_tokenizer: JsonTokenizer) -> None:
    """Here, "<" stands for the token that only a call begins with."""
    (begins, *_) = byte_level_tokenizer.encode("<tool_call>", add_bos=False)
    grammar = compiled(byte_level_tokenizer, TaggedCalls)
    for seed in range(10):
        guide = BegunCalls(grammar, {begins}).guide(MAX_TOKENS)
        pieces, generation = answered(byte_level_tokenizer, TaggedCalls, guide, seed, "the wind <")
        cut = [call for call in pieces[-1].calls if isinstance(call, MalformedCall)]
        assert "".join(piece.text for piece in pieces) == "the wind"
        if not cut:
            assert check(pieces) >= 1
        assert generation.made_calls or cut


def test_a_call_that_is_cut_is_not_closed_with_made_up_arguments(byte_level_tokenizer: JsonTokenizer) -> None:
    (begins, *_) = byte_level_tokenizer.encode("<tool_call>", add_bos=False)
    guide = BegunCalls(compiled(byte_level_tokenizer, TaggedCalls), {begins}).guide(MAX_TOKENS)
    assert guide.allowed(byte_level_tokenizer.vocab_size) is None
    assert guide.take(begins).tokens[0] == begins
    assert guide.allowed(byte_level_tokenizer.vocab_size) is not None
    assert (guide.close(), guide.closes) == ((), False)
