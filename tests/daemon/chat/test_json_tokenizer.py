"""tokenizer.json: bytes of tokens, text of ids, raw prompts."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders

from bise_daemon.chat.json_tokenizer import JsonTokenizer
from bise_proto.bundle import BundleError
from bise_proto.v1 import bundle_pb2

ids = st.lists(st.integers(0, 10_000), max_size=30)
plain_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def stream(tokenizer: JsonTokenizer, token_ids: list[int], *, continues: bool = False) -> list[str]:
    detokenizer = tokenizer.detokenizer(continues=continues)
    return [*(detokenizer.push(token_id) for token_id in token_ids), detokenizer.finish()]


@given(numbers=ids)
def test_byte_level_pushes_join_to_the_librarys_decoding(
    byte_level: Tokenizer, byte_level_tokenizer: JsonTokenizer, numbers: list[int]
) -> None:
    token_ids = [number % byte_level_tokenizer.vocab_size for number in numbers]

    text = "".join(stream(byte_level_tokenizer, token_ids))

    assert text == byte_level.decode(token_ids, skip_special_tokens=True)


@given(text=plain_text)
def test_byte_level_text_survives_the_round_trip(byte_level_tokenizer: JsonTokenizer, text: str) -> None:
    pushes = stream(byte_level_tokenizer, byte_level_tokenizer.encode(text))

    assert "".join(pushes) == text
    assert "\ufffd" in text or not any("\ufffd" in push for push in pushes)


@given(text=plain_text)
def test_metaspace_pushes_join_to_the_librarys_decoding(
    metaspace: Tokenizer, metaspace_tokenizer: JsonTokenizer, text: str
) -> None:
    token_ids = metaspace_tokenizer.encode(text)

    assert "".join(stream(metaspace_tokenizer, token_ids)) == metaspace.decode(token_ids, skip_special_tokens=True)


@given(text=plain_text)
def test_token_bytes_join_to_the_text(byte_level_tokenizer: JsonTokenizer, text: str) -> None:
    tokens = [byte_level_tokenizer.token_bytes(token_id) for token_id in byte_level_tokenizer.encode(text)]

    assert b"".join(tokens) == text.encode("utf-8")


def test_a_continued_prompt_keeps_the_first_words_space(metaspace_tokenizer: JsonTokenizer) -> None:
    token_ids = metaspace_tokenizer.encode("the wind", add_bos=False)

    assert "".join(stream(metaspace_tokenizer, token_ids)) == "the wind"
    assert "".join(stream(metaspace_tokenizer, token_ids, continues=True)) == " the wind"


def test_special_tokens_add_no_text_but_have_bytes(byte_level_tokenizer: JsonTokenizer) -> None:
    assert "".join(stream(byte_level_tokenizer, [1, 2])) == ""
    assert byte_level_tokenizer.token_bytes(1) == b"<|im_start|>"


@pytest.mark.parametrize("token_id", [-1, 1023, 1 << 40])
def test_ids_beyond_the_vocabulary_are_empty(byte_level_tokenizer: JsonTokenizer, token_id: int) -> None:
    assert byte_level_tokenizer.token_bytes(token_id) == b""
    assert stream(byte_level_tokenizer, [token_id]) == ["", ""]


def test_raw_prompts_spell_special_tokens(byte_level_tokenizer: JsonTokenizer) -> None:
    assert byte_level_tokenizer.encode("<|im_start|><|im_end|>") == [1, 2]


def test_bos_is_added_as_asked_and_never_twice(
    byte_level_tokenizer: JsonTokenizer, metaspace_tokenizer: JsonTokenizer
) -> None:
    word = metaspace_tokenizer.encode("wind", add_bos=False)

    assert metaspace_tokenizer.encode("wind") == [1, *word]
    assert byte_level_tokenizer.encode("x") == byte_level_tokenizer.encode("x", add_bos=True)[1:]
    assert byte_level_tokenizer.encode("<|im_start|>x", add_bos=True).count(1) == 1


def test_a_stored_truncation_does_not_cut_prompts(byte_level: Tokenizer) -> None:
    cutting = Tokenizer.from_str(byte_level.to_str())
    cutting.enable_truncation(2)
    cutting.enable_padding(length=50)

    tokenizer = JsonTokenizer(cutting, bundle_pb2.Tokenizer(), Path("tokenizer.json"))

    assert len(tokenizer.encode("wxyz")) == 4


def test_a_decoder_that_loses_bytes_is_refused(byte_level: Tokenizer) -> None:
    lossy = Tokenizer.from_str(byte_level.to_str())
    lossy.decoder = decoders.WordPiece()

    with pytest.raises(BundleError, match=r"tokenizer.json: decoder: expected ByteLevel.* got \['WordPiece'\]"):
        JsonTokenizer(lossy, bundle_pb2.Tokenizer(), Path("tokenizer.json"))
