"""Which tokenizer a folder holds, and what of it a bundle gets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from bise_export.errors import SourceError
from bise_export.sources.checkpoint import TokenizerInfo
from bise_export.sources.json_document import read_json
from bise_export.sources.open import open_checkpoint
from bise_proto.v1 import bundle_pb2
from golden import checkpoints, tiny


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    folder.mkdir()
    return folder


def written(source: Path, bundle: Path) -> TokenizerInfo:
    return open_checkpoint(source).write_tokenizer(bundle)


def edit(file: Path, **values: object) -> None:
    checkpoints.write_json(file, (read_json(file) if file.exists() else {}) | values)


def test_hugging_faces_files_become_a_tokenizers_bundle(tiny_huggingface: Path, bundle: Path) -> None:
    info = written(tiny_huggingface, bundle)
    assert info == TokenizerInfo(
        bundle_pb2.Tokenizer(
            kind=bundle_pb2.Tokenizer.TOKENIZERS,
            file="tokenizer/tokenizer.json",
            add_bos=True,
            bos_token_id=1,
            eos_token_ids=[2],
        ),
        bundle_pb2.JINJA,
    )
    assert (bundle / "tokenizer/chat_template.jinja").read_text() == checkpoints.TEMPLATE
    special = json.loads((bundle / "tokenizer/special_tokens.json").read_text())
    assert special == {"bos_token": "<s>", "eos_token": "</s>"}
    ours, theirs = (Tokenizer.from_file(str(f / "tokenizer.json")) for f in (bundle / "tokenizer", tiny_huggingface))
    assert ours.encode("Hello, été").ids == theirs.encode("Hello, été").ids


def test_truncation_and_padding_are_turned_off(tiny_huggingface: Path, bundle: Path) -> None:
    tokenizer = Tokenizer.from_file(str(tiny_huggingface / "tokenizer.json"))
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=64)
    tokenizer.save(str(tiny_huggingface / "tokenizer.json"))
    written(tiny_huggingface, bundle)
    got = Tokenizer.from_file(str(bundle / "tokenizer/tokenizer.json"))
    assert len(got.encode("x" * 20).ids) == 20


@pytest.mark.parametrize(
    ("config", "in_post_processor", "add_bos"), [(None, True, True), (None, False, False), (False, True, False)]
)
def test_the_leading_bos_is_the_configs_or_the_post_processors(
    tiny_huggingface: Path, bundle: Path, config: bool | None, in_post_processor: bool, add_bos: bool
) -> None:
    edit(tiny_huggingface / "tokenizer_config.json", add_bos_token=config)
    if in_post_processor:
        tokenizer = Tokenizer.from_file(str(tiny_huggingface / "tokenizer.json"))
        tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
        tokenizer.save(str(tiny_huggingface / "tokenizer.json"))
    assert written(tiny_huggingface, bundle).tokenizer.add_bos == add_bos


def test_the_template_file_goes_before_the_configs(tiny_huggingface: Path, bundle: Path) -> None:
    (tiny_huggingface / "chat_template.jinja").write_text("{{ messages }}\r\n", newline="")
    written(tiny_huggingface, bundle)
    assert (bundle / "tokenizer/chat_template.jinja").read_bytes() == b"{{ messages }}\r\n"


def test_of_named_templates_the_default_is_taken(tiny_huggingface: Path, bundle: Path) -> None:
    templates = [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]
    edit(tiny_huggingface / "tokenizer_config.json", chat_template=templates)
    written(tiny_huggingface, bundle)
    assert (bundle / "tokenizer/chat_template.jinja").read_text() == "D"


@pytest.mark.parametrize("template", [7, [{"name": "tool_use", "template": "T"}], [3], {"default": "D"}])
def test_a_template_of_another_form_is_refused(tiny_huggingface: Path, bundle: Path, template: object) -> None:
    edit(tiny_huggingface / "tokenizer_config.json", chat_template=template)
    with pytest.raises(SourceError, match=r"tokenizer_config.json: chat_template: expected text or a template named"):
        written(tiny_huggingface, bundle)


def test_a_template_too_large_is_refused(tiny_huggingface: Path, bundle: Path) -> None:
    edit(tiny_huggingface / "tokenizer_config.json", chat_template="x" * (2 << 20))
    with pytest.raises(SourceError, match="chat template: expected at most 1048576 bytes, got 2097152"):
        written(tiny_huggingface, bundle)


def test_without_a_template_it_is_a_base_model(tiny_huggingface: Path, bundle: Path) -> None:
    (tiny_huggingface / "tokenizer_config.json").unlink()
    assert written(tiny_huggingface, bundle).chat_format == bundle_pb2.NONE
    assert [file.name for file in (bundle / "tokenizer").iterdir()] == ["tokenizer.json"]


def test_generation_goes_by_the_generation_config(tiny_huggingface: Path, bundle: Path) -> None:
    checkpoints.write_json(tiny_huggingface / "generation_config.json", {"eos_token_id": [2, 9]})
    assert written(tiny_huggingface, bundle).tokenizer.eos_token_ids == [2, 9]


def test_a_tokenizer_with_ids_beyond_the_embeddings_is_refused(tiny_huggingface: Path, bundle: Path) -> None:
    tokenizer = Tokenizer.from_file(str(tiny_huggingface / "tokenizer.json"))
    tokenizer.add_tokens(["<one more>"])
    tokenizer.save(str(tiny_huggingface / "tokenizer.json"))
    with pytest.raises(SourceError, match=r"tokenizer.json: expected token ids below the vocabulary's 320, got 320"):
        written(tiny_huggingface, bundle)


def test_a_broken_tokenizer_is_refused(tiny_huggingface: Path, bundle: Path) -> None:
    (tiny_huggingface / "tokenizer.json").write_text('{"model": 3}')
    with pytest.raises(SourceError, match=r"tokenizer.json: expected a tokenizer"):
        written(tiny_huggingface, bundle)


def test_tekken_goes_before_tokenizer_json(tiny_huggingface: Path, bundle: Path) -> None:
    checkpoints.write_tekken(tiny_huggingface / "tekken.json", tiny.MISTRAL.vocab_size)
    info = written(tiny_huggingface, bundle)
    assert (info.tokenizer.kind, info.chat_format) == (bundle_pb2.Tokenizer.TEKKEN, bundle_pb2.MISTRAL)


@pytest.mark.parametrize(
    ("beside", "chat_format"),
    [
        ({}, bundle_pb2.MISTRAL),
        ({"tokenizer_config.json": {"add_bos_token": True}}, bundle_pb2.NONE),
        ({"tokenizer_config.json": {"chat_template": "T"}}, bundle_pb2.MISTRAL),
        ({"tokenizer_config.json": {}, "chat_template.jinja": "T"}, bundle_pb2.MISTRAL),
        ({"tokenizer_config.json": {}, "chat_template.json": {"chat_template": "T"}}, bundle_pb2.MISTRAL),
    ],
)
def test_a_tokenizer_of_mistrals_own_beside_a_config_without_a_template_is_of_a_base_model(
    tiny_mistral: Path, bundle: Path, beside: dict[str, object], chat_format: int
) -> None:
    for name, content in beside.items():
        checkpoints.write_json(tiny_mistral / name, content)
    assert written(tiny_mistral, bundle).chat_format == chat_format


def test_a_tekken_bundle_is_what_mistral_common_reads(tiny_mistral: Path, bundle: Path) -> None:
    info = written(tiny_mistral, bundle)
    assert info == TokenizerInfo(
        bundle_pb2.Tokenizer(
            kind=bundle_pb2.Tokenizer.TEKKEN,
            file="tokenizer/tekken.json",
            add_bos=True,
            bos_token_id=1,
            eos_token_ids=[2],
        ),
        bundle_pb2.MISTRAL,
    )
    tokenizer = MistralTokenizer.from_file(bundle / info.tokenizer.file).instruct_tokenizer.tokenizer
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.n_words) == (1, 2, tiny.MISTRAL.vocab_size)


def test_ids_are_those_the_tekken_file_lists(tiny_mistral: Path, bundle: Path) -> None:
    special = [{"rank": rank, "token_str": token} for rank, token in enumerate(["<pad>", "</s>", "<x>", "<s>"])]
    edit(tiny_mistral / "tekken.json", special_tokens=special)
    tokenizer = written(tiny_mistral, bundle).tokenizer
    assert (tokenizer.bos_token_id, tokenizer.eos_token_ids) == (3, [1])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"vocab": None}, "expected a tekken file with vocab and config"),
        ({"special_tokens": [{"rank": 0, "token_str": "<pad>"}]}, "expected ids of <s> and </s>"),
        ({"config": {"default_num_special_tokens": 1 << 40}}, "default_num_special_tokens: expected 0 to 16384, got"),
    ],
)
def test_a_broken_tekken_file_is_refused(tiny_mistral: Path, values: dict[str, object], message: str) -> None:
    edit(tiny_mistral / "tekken.json", **values)
    with pytest.raises(SourceError, match=f"tekken.json: {message}"):
        open_checkpoint(tiny_mistral)


@pytest.mark.parametrize("name", ["tokenizer.model", "tokenizer.model.v3"])
def test_a_sentencepiece_file_keeps_its_name(tiny_mistral: Path, bundle: Path, name: str) -> None:
    (tiny_mistral / "tekken.json").rename(tiny_mistral / name)
    info = written(tiny_mistral, bundle)
    assert (info.tokenizer.kind, info.chat_format) == (bundle_pb2.Tokenizer.SENTENCEPIECE, bundle_pb2.MISTRAL)
    assert info.tokenizer.file == f"tokenizer/{name}"
    assert (bundle / info.tokenizer.file).read_bytes() == (tiny_mistral / name).read_bytes()


def test_of_sentencepiece_files_the_newest_is_taken(tiny_mistral: Path, bundle: Path) -> None:
    (tiny_mistral / "tekken.json").unlink()
    for name in ("tokenizer.model", "tokenizer.model.v1", "tokenizer.model.v3"):
        (tiny_mistral / name).write_text(name)
    assert written(tiny_mistral, bundle).tokenizer.file == "tokenizer/tokenizer.model.v3"


def test_a_folder_without_a_tokenizer_is_refused(tiny_huggingface: Path, tiny_mistral: Path) -> None:
    (tiny_huggingface / "tokenizer.json").unlink()
    (tiny_mistral / "tekken.json").unlink()
    for folder in (tiny_huggingface, tiny_mistral):
        with pytest.raises(SourceError, match=rf"{folder}: expected tekken.json or tokenizer.model\*, got neither"):
            open_checkpoint(folder)


def test_a_sentencepiece_file_says_nothing_of_other_families(tmp_path: Path) -> None:
    folder = checkpoints.write_huggingface(tmp_path, tiny.LLAMA, tiny.weights(tiny.LLAMA))
    (folder / "tokenizer.json").rename(folder / "tokenizer.model")
    with pytest.raises(SourceError, match=r"expected tokenizer.json or tekken.json, got neither"):
        open_checkpoint(folder)
