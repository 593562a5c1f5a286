"""The fixed texts, and how each kind of tokenizer in a bundle reads them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models

from bise_export.errors import ExportError
from bise_export.prompts import CALIBRATION, VERIFICATION, token_prompts
from bise_proto.v1 import bundle_pb2

BYTES = bundle_pb2.Tokenizer(
    kind=bundle_pb2.Tokenizer.TOKENIZERS, file="tokenizer.json", add_bos=True, bos_token_id=1, eos_token_ids=[2]
)


@pytest.fixture
def folder(tmp_path):
    """A folder with a tokenizer that gives every character up to U+00FF a token of its own."""
    Tokenizer(models.BPE({chr(code): code for code in range(256)}, [])).save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def mistral_data():
    """Where mistral-common keeps its tokenizers."""
    package = importlib.util.find_spec("mistral_common")
    if package is None:
        pytest.skip("mistral-common is not installed")
    return Path(package.submodule_search_locations[0]) / "data"


def test_the_texts_of_the_two_sets_are_disjoint():
    assert not set(CALIBRATION) & set(VERIFICATION)
    assert len(set(CALIBRATION)) == len(set(VERIFICATION)) == 8


def test_texts_are_tokenized_with_bos_first_if_the_manifest_says_so(folder):
    assert token_prompts(folder, BYTES, ["ab", ""]) == [[1, 97, 98], [1]]
    without = bundle_pb2.Tokenizer(kind=BYTES.kind, file=BYTES.file, add_bos=False, bos_token_id=1)
    assert token_prompts(folder, without, ["ab"]) == [[97, 98]]


@pytest.mark.slow
def test_a_tekken_file_is_read():
    tekken = bundle_pb2.Tokenizer(
        kind=bundle_pb2.Tokenizer.TEKKEN, file="tekken_240911.json", add_bos=True, bos_token_id=1
    )
    from mistral_common.tokens.tokenizers.tekken import Tekkenizer

    (ids,) = token_prompts(mistral_data(), tekken, ["Guten Tag, Bise!"])

    assert ids[0] == 1
    assert Tekkenizer.from_file(mistral_data() / tekken.file).decode(ids[1:]) == "Guten Tag, Bise!"


@pytest.mark.slow
def test_a_sentencepiece_file_is_read():
    pytest.importorskip("sentencepiece")
    model = bundle_pb2.Tokenizer(
        kind=bundle_pb2.Tokenizer.SENTENCEPIECE, file="tokenizer.model.v1", add_bos=True, bos_token_id=1
    )
    from mistral_common.tokens.tokenizers.sentencepiece import SentencePieceTokenizer

    (ids,) = token_prompts(mistral_data(), model, ["Guten Tag, Bise!"])

    assert ids[0] == 1
    assert SentencePieceTokenizer(mistral_data() / model.file).decode(ids[1:]) == "Guten Tag, Bise!"


@pytest.mark.parametrize(
    ("kind", "command"),
    [
        (bundle_pb2.Tokenizer.TEKKEN, r"pip install 'bise\[daemon\]'"),
        (bundle_pb2.Tokenizer.SENTENCEPIECE, r"pip install 'mistral-common\[sentencepiece\]'"),
    ],
)
def test_a_package_not_installed_is_one_sentence_with_the_command(folder, monkeypatch, kind, command):
    monkeypatch.setattr("bise_export.prompts.find_spec", lambda _name: None)

    with pytest.raises(ExportError, match=command):
        token_prompts(folder, bundle_pb2.Tokenizer(kind=kind, file="tokenizer.json"), ["Guten Tag"])


def test_a_missing_tokenizer_is_refused(folder):
    other = bundle_pb2.Tokenizer(kind=bundle_pb2.Tokenizer.TOKENIZERS, file="other.json")

    with pytest.raises(ExportError, match=r"other\.json: expected the bundle's tokenizer, found no file"):
        token_prompts(folder, other, ["ab"])


@pytest.mark.parametrize("kind", [bundle_pb2.Tokenizer.TOKENIZERS, bundle_pb2.Tokenizer.TEKKEN])
def test_a_broken_tokenizer_is_refused(folder, kind):
    (folder / "tokenizer.json").write_text("{}")
    broken = bundle_pb2.Tokenizer(kind=kind, file="tokenizer.json")

    with pytest.raises(ExportError, match=r"tokenizer\.json: not a tokenizer of its kind"):
        token_prompts(folder, broken, ["ab"])


def test_a_tokenizer_of_no_known_kind_is_refused(folder):
    with pytest.raises(ExportError, match="expected a tokenizer of kind TOKENIZERS, TEKKEN, SENTENCEPIECE, got KIND"):
        token_prompts(folder, bundle_pb2.Tokenizer(file="tokenizer.json"), ["ab"])
