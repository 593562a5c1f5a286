"""A tokenizer small enough to read, and grammars compiled over it in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from bise_daemon.engine.detokenize import ByteDetokenizer, Detokenizer
from bise_daemon.grammar.compiler import compile_format
from bise_daemon.grammar.format import Format, Kind
from bise_daemon.grammar.grammar import Grammar
from bise_daemon.grammar.trial import attempt
from bise_daemon.grammar.vocabulary import Vocabulary

_WORDS = ('"', '": ', '", ', '": "', '{"', '"}', "[]", "{}", "name", "age", "true", "null", "wind", "10", "ü")


class WordTokenizer:
    """Bytes, some words, and two special tokens. A text is the longest words there are, from its beginning on.

    Attributes:
        marks_words: it writes a space before a text, as tokenizers do that mark word starts.
    """

    EOS, CALL = 256, 257

    def __init__(self, *, marks_words: bool = False) -> None:
        self.marks_words = marks_words
        self._words = [*(bytes([byte]) for byte in range(256)), b"</s>", b"[CALL]", *(each.encode() for each in _WORDS)]
        self.special_ids = frozenset({self.EOS, self.CALL})
        self.eos_token_ids = frozenset({self.EOS})

    @property
    def vocab_size(self) -> int:
        return len(self._words)

    def encode(self, text: str, *, add_bos: bool | None = None) -> list[int]:
        rest, tokens = (" " * self.marks_words + text).encode(), list[int]()
        while rest:
            found = max((word for word in self._words if rest.startswith(word)), key=len)
            tokens.append(self._words.index(found))
            rest = rest[len(found) :]
        return tokens

    def token_bytes(self, token_id: int) -> bytes:
        return self._words[token_id]

    def detokenizer(self, *, continues: bool = False) -> Detokenizer:
        return ByteDetokenizer(lambda token: b"" if token in self.special_ids else self._words[token])


@pytest.fixture(scope="session")
def tokenizer() -> WordTokenizer:
    return WordTokenizer()


@pytest.fixture(scope="session")
def vocabulary(tokenizer: WordTokenizer) -> Vocabulary:
    return Vocabulary(tokenizer)


Compile = Callable[..., Grammar]


@pytest.fixture(scope="session")
def compiled(vocabulary: Vocabulary) -> Compile:
    """Compiles a format, given as `compiled(json_schema={…})` or `compiled(regex="a+")`."""

    def compiled(**of: Any) -> Grammar:
        ((kind, text),) = of.items()
        form = Format(Kind(kind), text if isinstance(text, str) else json.dumps(text))
        closing = attempt(form, vocabulary.special_names)
        assert isinstance(closing, list), closing
        return compile_format(form, vocabulary, closing)

    return compiled


def text_of(tokenizer: WordTokenizer, tokens: list[int]) -> str:
    return b"".join(map(tokenizer.token_bytes, tokens)).decode()
