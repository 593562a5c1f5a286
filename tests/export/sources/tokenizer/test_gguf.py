"""Tokenizers rebuilt from GGUF metadata against llama.cpp's ids, and against metadata that is broken."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from gguf import TokenType
from tokenizers import Tokenizer

from bise_export.errors import ExportError, SourceError, UnsupportedError
from bise_export.sources.gguf_header import GgufHeader, read_header
from bise_export.sources.open import open_checkpoint
from bise_export.sources.tokenizer.gguf import GgufTokenizer
from bise_proto.v1 import bundle_pb2
from golden import checkpoints, sentencepiece_model, tiny
from golden.make_tokens import TEXTS, TOKENS

GOLDEN = json.loads(TOKENS.read_text(encoding="utf-8"))
FILE = Path("x.gguf")
SPEC = replace(tiny.LLAMA, vocab_size=1 << 20)


def build(metadata: dict[str, object]) -> Tokenizer:
    return GgufTokenizer.of(GgufHeader(metadata, {}), FILE, SPEC).build()


@pytest.fixture(scope="module")
def smollm2(smollm2_gguf: Path) -> Tokenizer:
    return GgufTokenizer.of(read_header(smollm2_gguf), smollm2_gguf, SPEC).build()


@pytest.fixture(scope="module")
def mistral_v3() -> Tokenizer:
    pieces = sentencepiece_model.mistral_v3()
    return build(
        {
            "tokenizer.ggml.model": "llama",
            "tokenizer.ggml.tokens": [piece.text for piece in pieces],
            "tokenizer.ggml.scores": [piece.score for piece in pieces],
            "tokenizer.ggml.token_type": [piece.type for piece in pieces],
        }
    )


@pytest.mark.real_model
def test_byte_level_ids_are_llama_cpps(smollm2: Tokenizer) -> None:
    got = {text: smollm2.encode(text, add_special_tokens=False).ids for text in TEXTS}
    assert got == GOLDEN["smollm2"]


@pytest.mark.real_model
def test_byte_level_ids_decode_to_their_text(smollm2: Tokenizer) -> None:
    for text, ids in GOLDEN["smollm2"].items():
        assert smollm2.decode(ids, skip_special_tokens=False) == text


@pytest.mark.slow
def test_sentencepiece_ids_are_llama_cpps(mistral_v3: Tokenizer) -> None:
    got = {text: mistral_v3.encode(text, add_special_tokens=False).ids for text in TEXTS}
    assert got == GOLDEN["mistral_v3"]


@pytest.mark.slow
def test_sentencepiece_ids_decode_to_their_text(mistral_v3: Tokenizer) -> None:
    for text, ids in GOLDEN["mistral_v3"].items():
        if "[INST]" not in text:  # a text after a special token gains a space, here as in llama.cpp
            assert mistral_v3.decode(ids, skip_special_tokens=False) == text


def sentencepiece_metadata() -> dict[str, object]:
    pieces = [("<unk>", 0.0, TokenType.UNKNOWN), ("<s>", 0.0, TokenType.CONTROL), ("</s>", 0.0, TokenType.CONTROL)]
    pieces += [(f"<0x{byte:02X}>", 0.0, TokenType.BYTE) for byte in range(256)]
    pieces += [("▁a", -0.0, TokenType.NORMAL), ("ab", -1.0, TokenType.NORMAL), ("▁ab", -2.0, TokenType.NORMAL)]
    pieces += [("▁", -3.0, TokenType.NORMAL), ("a", -4.0, TokenType.NORMAL), ("b", -5.0, TokenType.NORMAL)]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [text for text, _, _ in pieces],
        "tokenizer.ggml.scores": [score for _, score, _ in pieces],
        "tokenizer.ggml.token_type": [int(kind) for _, _, kind in pieces],
    }


def tokens_of(metadata: dict[str, object], text: str) -> list[str]:
    return build(metadata).encode(text, add_special_tokens=False).tokens


def test_the_space_prefix_is_as_the_metadata_says() -> None:
    metadata = sentencepiece_metadata()
    assert tokens_of(metadata, "ab") == ["▁ab"]
    assert tokens_of(metadata | {"tokenizer.ggml.add_space_prefix": False}, "ab") == ["ab"]
    assert build(metadata).decode([261]) == "ab"
    assert build(metadata | {"tokenizer.ggml.add_space_prefix": False}).decode([261]) == " ab"


def test_unknown_characters_become_bytes() -> None:
    assert tokens_of(sentencepiece_metadata(), "aé") == ["▁a", "<0xC3>", "<0xA9>"]


def test_control_tokens_are_special_and_user_defined_are_not() -> None:
    metadata = sentencepiece_metadata()
    metadata["tokenizer.ggml.tokens"] += ["<tool>"]
    metadata["tokenizer.ggml.scores"] += [0.0]
    metadata["tokenizer.ggml.token_type"] += [int(TokenType.USER_DEFINED)]
    tokenizer = build(metadata)
    ids = tokenizer.encode("ab</s><tool>", add_special_tokens=False).ids
    assert ids == [261, 2, 265]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "ab<tool>"


def byte_level_metadata(folder: Path) -> dict[str, object]:
    path = checkpoints.write_gguf(folder / "x.gguf", tiny.LLAMA, {})
    return dict(read_header(path).metadata)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokenizer.ggml.model": "bert"}, "tokenizer.ggml.model: expected gpt2 or llama, got 'bert'"),
        ({"tokenizer.ggml.model": None}, "tokenizer.ggml.model: expected text"),
        ({"tokenizer.ggml.pre": "viking"}, "tokenizer.ggml.pre: expected one of .*smollm.*, got 'viking'"),
        ({"tokenizer.ggml.tokens": ["a"]}, "expected as many token types as tokens, got 320 and 1"),
        ({"tokenizer.ggml.tokens": ["a"] * 320}, "expected 320 different tokens, got 1"),
        ({"tokenizer.ggml.token_type": None}, "token_type: expected a list, got None"),
        ({"tokenizer.ggml.merges": ["nospace"]}, "merges: expected two tokens and a space between, got 'nospace'"),
        ({"tokenizer.ggml.merges": ["qq xx"]}, "expected merges of known tokens"),
        ({"tokenizer.ggml.merges": [1]}, "merges: expected two tokens"),
        ({"tokenizer.chat_template": 3}, "chat_template: expected text"),
        ({"tokenizer.ggml.model": "llama"}, "tokenizer.ggml.scores: expected a list, got nothing"),
        ({"tokenizer.ggml.model": "llama", "tokenizer.ggml.scores": [0.0]}, "scores: expected 320, got 1"),
        ({"tokenizer.ggml.model": "llama", "tokenizer.ggml.scores": [float("nan")]}, "scores: expected numbers"),
    ],
)
def test_broken_metadata_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    header = GgufHeader(byte_level_metadata(tmp_path) | change, {})
    (tmp_path / "bundle").mkdir()
    with pytest.raises(ExportError, match=f"^x.gguf: .*{message}"):
        GgufTokenizer.of(header, FILE, tiny.LLAMA).write(tmp_path / "bundle")
    assert not list((tmp_path / "bundle").iterdir())


def test_unsupported_and_broken_are_told_apart(tmp_path: Path) -> None:
    metadata = byte_level_metadata(tmp_path)
    with pytest.raises(UnsupportedError):
        build(metadata | {"tokenizer.ggml.pre": "viking"})
    with pytest.raises(SourceError):
        build(metadata | {"tokenizer.ggml.merges": [1]})


@pytest.mark.parametrize(
    ("pre", "written", "add_bos"),
    [
        ("gpt-2", None, False),
        ("gpt-2", True, True),
        ("llama-bpe", None, True),
        ("llama-bpe", False, False),
        ("tekken", None, True),
    ],
)
def test_the_leading_bos_is_the_metadatas_or_llama_cpps(
    tmp_path: Path, pre: str, written: bool | None, add_bos: bool
) -> None:
    metadata = byte_level_metadata(tmp_path) | {"tokenizer.ggml.pre": pre, "tokenizer.ggml.add_bos_token": written}
    info = GgufTokenizer.of(GgufHeader(metadata, {}), FILE, tiny.LLAMA).write(tmp_path)
    assert info.tokenizer.add_bos == add_bos


def test_what_a_bundle_gets(tmp_path: Path, tiny_gguf: Path) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    info = open_checkpoint(tiny_gguf).write_tokenizer(bundle)
    assert info.chat_format == bundle_pb2.JINJA
    assert info.tokenizer == bundle_pb2.Tokenizer(
        kind=bundle_pb2.Tokenizer.TOKENIZERS,
        file="tokenizer/tokenizer.json",
        add_bos=True,
        bos_token_id=1,
        eos_token_ids=[2],
    )
    assert {file.name for file in (bundle / "tokenizer").iterdir()} == {
        "tokenizer.json",
        "chat_template.jinja",
        "special_tokens.json",
    }
    assert (bundle / "tokenizer" / "chat_template.jinja").read_text() == checkpoints.TEMPLATE
    special = json.loads((bundle / "tokenizer" / "special_tokens.json").read_text())
    assert special == {"bos_token": "<s>", "eos_token": "</s>"}
    tokenizer = Tokenizer.from_file(str(bundle / info.tokenizer.file))
    assert tokenizer.get_vocab_size() == tiny.MISTRAL.vocab_size
    assert tokenizer.decode(tokenizer.encode("été 🙂", add_special_tokens=True).ids) == "été 🙂"


def test_a_file_without_a_template_is_a_base_model(tmp_path: Path) -> None:
    metadata = byte_level_metadata(tmp_path) | {"tokenizer.chat_template": None}
    info = GgufTokenizer.of(GgufHeader(metadata, {}), FILE, tiny.LLAMA).write(tmp_path)
    assert info.chat_format == bundle_pb2.NONE
    assert [file.name for file in (tmp_path / "tokenizer").iterdir()] == ["tokenizer.json"]
