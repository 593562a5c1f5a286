"""Loading a bundle's tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from bise_daemon.chat.tokenizer import load_tokenizer
from bise_proto.bundle import BundleError
from bise_proto.v1 import bundle_pb2

WriteBundle = Callable[..., bundle_pb2.Bundle]


def test_a_tokenizer_json_is_loaded(tmp_path: Path, write_bundle: WriteBundle, byte_level: Tokenizer) -> None:
    tokenizer = load_tokenizer(tmp_path, write_bundle(byte_level))

    assert tokenizer.encode("the wind") == byte_level.encode("the wind").ids
    assert tokenizer.vocab_size == byte_level.get_vocab_size()
    assert tokenizer.eos_token_ids == {2}


def test_a_broken_file_is_named(tmp_path: Path, write_bundle: WriteBundle, byte_level: Tokenizer) -> None:
    bundle = write_bundle(byte_level)
    (tmp_path / bundle.tokenizer.file).write_text("{}")

    with pytest.raises(BundleError, match=r"tokenizer/tokenizer\.json: expected a tokenizer\.json, got"):
        load_tokenizer(tmp_path, bundle)


def test_a_missing_file_is_named(tmp_path: Path, write_bundle: WriteBundle, byte_level: Tokenizer) -> None:
    bundle = write_bundle(byte_level)
    (tmp_path / bundle.tokenizer.file).unlink()

    with pytest.raises(BundleError, match=r"tokenizer/tokenizer\.json: expected the bundle's tokenizer, found no file"):
        load_tokenizer(tmp_path, bundle)


def test_tokens_the_model_has_not_are_refused(tmp_path: Path, write_bundle: WriteBundle, byte_level: Tokenizer) -> None:
    bundle = write_bundle(byte_level)
    bundle.architecture.vocab_size = byte_level.get_vocab_size() - 1

    with pytest.raises(BundleError, match="expected token ids below the model's"):
        load_tokenizer(tmp_path, bundle)


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="tokenizer kind: expected one of TOKENIZERS, TEKKEN, SENTENCEPIECE; got 0"):
        load_tokenizer(tmp_path, bundle_pb2.Bundle())
