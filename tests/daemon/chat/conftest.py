"""Small tokenizers of the two kinds, and Mistral's, in bundles."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import mistral_common
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from bise_daemon.chat.json_tokenizer import JsonTokenizer
from bise_proto.v1 import bundle_pb2

_SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
_CORPUS = ["the wind from the north is cold", "user assistant system", "le vent du nord, où l'été 🤗 finit"] * 4


@pytest.fixture(scope="session")
def chatml() -> str:
    """The template of ChatML, without a default system message."""
    return (
        "{% for message in messages %}"
        "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )


@pytest.fixture(scope="session")
def byte_level() -> Tokenizer:
    """Byte-level BPE with ChatML's special tokens and an added token that is not special."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        show_progress=False,
        special_tokens=_SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    tokenizer.add_tokens([AddedToken("<think>", special=False, normalized=False)])
    return tokenizer


@pytest.fixture(scope="session")
def metaspace() -> Tokenizer:
    """A SentencePiece-like BPE with byte fallback, as converted Llama and Mistral tokenizers are."""
    words = ["▁the", "▁wind", "▁cold"]
    vocab = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"abcdefghijklmnopqrstuvwxyz"]
    merges: list[tuple[str, str]] = []
    for word in words:
        for length in range(2, len(word) + 1):
            vocab.append(word[:length])
            merges.append((word[: length - 1], word[length - 1]))
    tokenizer = Tokenizer(
        models.BPE(
            {piece: id_ for id_, piece in enumerate(dict.fromkeys(vocab))},
            list(dict.fromkeys(merges)),
            unk_token="<unk>",
            byte_fallback=True,
            fuse_unk=True,
        )
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    return tokenizer


@pytest.fixture(scope="session")
def byte_level_tokenizer(byte_level: Tokenizer) -> JsonTokenizer:
    info = bundle_pb2.Tokenizer(bos_token_id=1, eos_token_ids=[2])
    return JsonTokenizer(Tokenizer.from_str(byte_level.to_str()), info, Path("tokenizer.json"))


@pytest.fixture(scope="session")
def metaspace_tokenizer(metaspace: Tokenizer) -> JsonTokenizer:
    info = bundle_pb2.Tokenizer(bos_token_id=1, eos_token_ids=[2], add_bos=True)
    return JsonTokenizer(Tokenizer.from_str(metaspace.to_str()), info, Path("tokenizer.json"))


@pytest.fixture
def write_bundle(tmp_path: Path) -> Callable[..., bundle_pb2.Bundle]:
    """Writes a tokenizer.json, and a template if given, into `tmp_path`, and describes them."""

    def write(tokenizer: Tokenizer, template: str | None = None) -> bundle_pb2.Bundle:
        folder = tmp_path / "tokenizer"
        folder.mkdir()
        tokenizer.save(str(folder / "tokenizer.json"))
        if template is not None:
            (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
            tokens = json.dumps({"bos_token": "<|im_start|>", "eos_token": None})
            (folder / "special_tokens.json").write_text(tokens, encoding="utf-8")
        return bundle_pb2.Bundle(
            name="small",
            chat_format=bundle_pb2.NONE if template is None else bundle_pb2.JINJA,
            architecture=bundle_pb2.Architecture(vocab_size=1024),
            tokenizer=bundle_pb2.Tokenizer(
                kind=bundle_pb2.Tokenizer.TOKENIZERS,
                file="tokenizer/tokenizer.json",
                bos_token_id=1,
                eos_token_ids=[2],
            ),
        )

    return write


@pytest.fixture(scope="session")
def mistral_data() -> Path:
    """The tokenizers that mistral-common carries."""
    return Path(mistral_common.__file__).parent / "data"


@pytest.fixture(scope="session")
def tekken_folder(tmp_path_factory: pytest.TempPathFactory, mistral_data: Path) -> Path:
    """A bundle's folder with Mistral Small 3's tokenizer layout, its vocabulary cut to 3,000 tokens for speed."""
    tekken = json.loads((mistral_data / "tekken_240911.json").read_text(encoding="utf-8"))
    tekken["config"] |= {"version": "v7", "default_vocab_size": 3000 + tekken["config"]["default_num_special_tokens"]}
    tekken["vocab"] = tekken["vocab"][:3000]
    folder = tmp_path_factory.mktemp("tekken")
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "tekken.json").write_text(json.dumps(tekken), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def tekken_bundle() -> bundle_pb2.Bundle:
    return bundle_pb2.Bundle(
        name="small-3",
        chat_format=bundle_pb2.MISTRAL,
        architecture=bundle_pb2.Architecture(vocab_size=131_072),
        tokenizer=bundle_pb2.Tokenizer(
            kind=bundle_pb2.Tokenizer.TEKKEN,
            file="tokenizer/tekken.json",
            add_bos=True,
            bos_token_id=1,
            eos_token_ids=[2],
        ),
    )
