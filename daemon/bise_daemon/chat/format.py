"""The daemon's view of a chat format, and how a bundle's is loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from bise_daemon.chat.conversation import Conversation
from bise_daemon.chat.message import Prompt
from bise_daemon.chat.tokenizer import Tokenizer
from bise_daemon.errors import Reason, RequestError
from bise_proto.bundle import BundleError
from bise_proto.v1 import bundle_pb2

TEMPLATE_FILE = "tokenizer/chat_template.jinja"
SPECIAL_TOKENS_FILE = "tokenizer/special_tokens.json"

_MAX_TEXT_BYTES = 1 << 20


class ChatFormat(Protocol):
    """Puts messages into the model's own chat layout. Instances are immutable and safe to share between threads."""

    def encode(self, conversation: Conversation) -> Prompt:
        """The prompt for the assistant's next turn; nothing that others wrote becomes control tokens.

        Raises:
            RequestError: INVALID_MESSAGE with the field, CHAT_UNSUPPORTED, or TOOLS_UNSUPPORTED.
        """
        ...


class NoChat:
    """The chat format of a base model: a refusal."""

    def __init__(self, model: str) -> None:
        self._model = model

    def encode(self, conversation: Conversation) -> Prompt:
        raise RequestError(
            Reason.CHAT_UNSUPPORTED,
            f"expected a model with a chat format, got {self._model}, a base model. "
            "Use Generate with a prompt, or serve an instruct model.",
            numbers={"model": self._model, "messages": len(conversation.messages)},
        )


def load_chat_format(folder: Path, bundle: bundle_pb2.Bundle, tokenizer: Tokenizer) -> ChatFormat:
    """The chat format of the bundle in `folder`, over its loaded tokenizer.

    Raises:
        BundleError: a file is missing or broken, or format and tokenizer do not go together.
    """
    if bundle.chat_format not in _LOADERS:
        known = ", ".join(bundle_pb2.ChatFormat.Name(known) for known in _LOADERS)
        raise BundleError(
            f"{folder}: chat_format: expected one of {known}; got {bundle.chat_format}. Export the model again."
        )
    return _LOADERS[bundle.chat_format](folder, bundle, tokenizer)


def _load_none(_folder: Path, bundle: bundle_pb2.Bundle, _tokenizer: Tokenizer) -> ChatFormat:
    return NoChat(bundle.name)


def _load_jinja(folder: Path, _bundle: bundle_pb2.Bundle, tokenizer: Tokenizer) -> ChatFormat:
    from bise_daemon.chat.jinja import JinjaChat
    from bise_daemon.chat.json_tokenizer import JsonTokenizer
    from bise_daemon.chat.template import ChatTemplate

    if not isinstance(tokenizer, JsonTokenizer):
        raise _mismatch(folder, "JINJA", "TOKENIZERS")
    source = _read(folder / TEMPLATE_FILE)
    try:
        return JinjaChat(ChatTemplate(source, variables=_special_tokens(folder)), source, tokenizer)
    except ValueError as error:
        raise BundleError(f"{folder / TEMPLATE_FILE}: {error}. Export the model again.") from error


def _load_mistral(folder: Path, _bundle: bundle_pb2.Bundle, tokenizer: Tokenizer) -> ChatFormat:
    from bise_daemon.chat.mistral import MistralChat
    from bise_daemon.chat.mistral_tokenizer import MistralCommonTokenizer

    if not isinstance(tokenizer, MistralCommonTokenizer):
        raise _mismatch(folder, "MISTRAL", "TEKKEN or SENTENCEPIECE")
    return MistralChat(tokenizer)


_LOADERS: dict[int, Callable[[Path, bundle_pb2.Bundle, Tokenizer], ChatFormat]] = {
    bundle_pb2.NONE: _load_none,
    bundle_pb2.JINJA: _load_jinja,
    bundle_pb2.MISTRAL: _load_mistral,
}


def _special_tokens(folder: Path) -> dict[str, str]:
    """The names a template may use; a token the model has not is left undefined, as templates test for."""
    path = folder / SPECIAL_TOKENS_FILE
    problem = f"{path}: expected an object of strings or nulls, for instance {{'bos_token': '<s>'}}"
    try:
        values = json.loads(_read(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise BundleError(f"{problem}, got: {error}. Export the model again.") from error
    if not isinstance(values, dict) or not all(isinstance(value, str | None) for value in values.values()):
        raise BundleError(f"{problem}, got other values. Export the model again.")
    return {name: value for name, value in values.items() if value is not None}


def _read(path: Path) -> str:
    if not path.is_file():
        raise BundleError(f"{path}: expected a file of the bundle, found none. Copy the whole bundle again.")
    if (size_bytes := path.stat().st_size) > _MAX_TEXT_BYTES:
        raise BundleError(
            f"{path}: expected at most {_MAX_TEXT_BYTES} bytes, got {size_bytes}. Export the model again."
        )
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise BundleError(f"{path}: expected UTF-8, got: {error}. Export the model again.") from error


def _mismatch(folder: Path, chat_format: str, kinds: str) -> BundleError:
    return BundleError(
        f"{folder}: chat_format {chat_format}: expected a tokenizer of kind {kinds}, got another. "
        "Export the model again."
    )
