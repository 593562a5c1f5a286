from __future__ import annotations

import pytest

from bise_daemon.grammar.vocabulary import Vocabulary
from daemon.grammar.conftest import WordTokenizer


@pytest.mark.parametrize("marks_words", [False, True])
@pytest.mark.parametrize("text", ["", '{"name": "wind"}', " name", "größer </s>", "a"])
def test_a_text_is_tokenized_as_its_very_bytes_and_never_as_a_special_token(text: str, marks_words: bool) -> None:
    tokenizer = WordTokenizer(marks_words=marks_words)
    tokens = Vocabulary(tokenizer).encode(text.encode())
    assert b"".join(map(tokenizer.token_bytes, tokens)) == text.encode()
    assert not tokenizer.special_ids.intersection(tokens)


def test_half_a_character_is_spelled(vocabulary: Vocabulary) -> None:
    assert vocabulary.encode("é".encode()[:1]) == ["é".encode()[0]]


def test_a_spelling_is_read_back(vocabulary: Vocabulary, tokenizer: WordTokenizer) -> None:
    tokens = [*tokenizer.encode("name"), tokenizer.CALL, *tokenizer.encode('{"age": 10')]
    assert vocabulary.read(vocabulary.spell(tokens)) == tokens


def test_grammars_call_special_tokens_by_angle_brackets(vocabulary: Vocabulary) -> None:
    assert vocabulary.special_names == [b"</s>", b"<CALL>"]


def test_a_model_without_an_end_has_one_that_it_never_says() -> None:
    tokenizer = WordTokenizer()
    tokenizer.eos_token_ids = frozenset()
    assert Vocabulary(tokenizer).eos_token_ids == [tokenizer.vocab_size]
