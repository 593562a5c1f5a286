"""Loading a bundle's chat format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from bise_daemon.chat.conversation import Conversation
from bise_daemon.chat.format import load_chat_format
from bise_daemon.chat.message import Message
from bise_daemon.chat.tokenizer import load_tokenizer
from bise_daemon.errors import Reason, RequestError
from bise_proto.bundle import BundleError
from bise_proto.v1 import bundle_pb2

WriteBundle = Callable[..., bundle_pb2.Bundle]


def load(folder: Path, bundle: bundle_pb2.Bundle) -> object:
    return load_chat_format(folder, bundle, load_tokenizer(folder, bundle))


def test_a_template_is_loaded_with_its_special_tokens(
    tmp_path: Path, write_bundle: WriteBundle, byte_level: Tokenizer
) -> None:
    source = "{{ bos_token }}{% if eos_token is defined %}wrong{% endif %}{{ messages[0].content }}"
    bundle = write_bundle(byte_level, source)

    prompt = load_chat_format(tmp_path, bundle, load_tokenizer(tmp_path, bundle)).encode(
        Conversation([Message("user", "the wind")])
    )

    assert prompt.text == "<|im_start|>the wind"
    assert prompt.token_ids == byte_level.encode(prompt.text).ids


def test_a_base_model_refuses_chat_by_its_name(
    tmp_path: Path, write_bundle: WriteBundle, byte_level: Tokenizer
) -> None:
    bundle = write_bundle(byte_level)

    with pytest.raises(RequestError, match="expected a model with a chat format, got small, a base model") as refusal:
        load_chat_format(tmp_path, bundle, load_tokenizer(tmp_path, bundle)).encode(
            Conversation([Message("user", "x")])
        )
    assert refusal.value.reason is Reason.CHAT_UNSUPPORTED


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        ("chat_template.jinja", None, "expected a file of the bundle, found none"),
        ("chat_template.jinja", b"\xff", "expected UTF-8"),
        ("chat_template.jinja", b"{% for %}", "expected a Jinja template"),
        ("chat_template.jinja", b" " * ((1 << 20) + 1), "expected at most 1048576 bytes"),
        ("special_tokens.json", None, "expected a file of the bundle, found none"),
        ("special_tokens.json", b"{", "expected an object of strings or nulls"),
        ("special_tokens.json", b"[]", "expected an object of strings or nulls"),
        ("special_tokens.json", b'{"bos_token": 1}', "expected an object of strings or nulls"),
    ],
)
def test_a_broken_file_is_named(
    tmp_path: Path, write_bundle: WriteBundle, byte_level: Tokenizer, file: str, content: bytes | None, problem: str
) -> None:
    bundle = write_bundle(byte_level, "{{ messages }}")
    path = tmp_path / "tokenizer" / file
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)

    with pytest.raises(BundleError, match=rf"tokenizer/{file}: {problem}"):
        load(tmp_path, bundle)


@pytest.mark.slow  # imports mistral-common
def test_format_and_tokenizer_must_go_together(
    tmp_path: Path, write_bundle: WriteBundle, byte_level: Tokenizer
) -> None:
    bundle = write_bundle(byte_level, "{{ messages }}")
    bundle.chat_format = bundle_pb2.MISTRAL

    with pytest.raises(BundleError, match="chat_format MISTRAL: expected a tokenizer of kind TEKKEN or SENTENCEPIECE"):
        load(tmp_path, bundle)


def test_an_unknown_format_is_refused(tmp_path: Path, write_bundle: WriteBundle, byte_level: Tokenizer) -> None:
    bundle = write_bundle(byte_level)
    bundle.chat_format = bundle_pb2.CHAT_FORMAT_UNSPECIFIED

    with pytest.raises(BundleError, match="chat_format: expected one of NONE, JINJA, MISTRAL; got 0"):
        load(tmp_path, bundle)
