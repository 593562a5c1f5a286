"""The daemon's view of a tokenizer, and how a bundle's is loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from bise_daemon.engine.detokenize import Detokenizer
from bise_proto.bundle import BundleError
from bise_proto.v1 import bundle_pb2

MAX_FILE_BYTES = 128 << 20


class Tokenizer(Protocol):
    """Text to token ids and back. Instances are immutable and safe to share between threads."""

    @property
    def vocab_size(self) -> int:
        """One more than the highest token id of the tokenizer; the model's own vocabulary may be padded beyond."""
        ...

    @property
    def eos_token_ids(self) -> frozenset[int]:
        """The tokens that end a generation."""
        ...

    @property
    def special_ids(self) -> frozenset[int]:
        """The tokens that are no text: turn marks and the like."""
        ...

    def encode(self, text: str, *, add_bos: bool | None = None) -> list[int]:
        """Encodes a raw prompt, special tokens spelled in it included (as raw completion is done elsewhere too).

        Raw prompts are the caller's own: for text of others, use a chat format, which keeps content literal.

        Args:
            text: any text.
            add_bos: whether to begin with the bos token, never doubled; None is the model's own habit.
        """
        ...

    def token_bytes(self, token_id: int) -> bytes:
        """The token's own bytes (a special token's name; a character can span tokens); empty for unknown ids."""
        ...

    def detokenizer(self, *, continues: bool = False) -> Detokenizer:
        """A detokenizer for one answer.

        Args:
            continues: the answer goes on from a raw prompt's text, so a first word's leading space is part of it.
        """
        ...


def load_tokenizer(folder: Path, bundle: bundle_pb2.Bundle) -> Tokenizer:
    """The tokenizer of the bundle in `folder`.

    Raises:
        BundleError: the file is missing, broken, of a kind that can't be detokenized exactly, or has tokens that
            the model has not.
    """
    kind = bundle.tokenizer.kind
    if kind not in _LOADERS:
        known = ", ".join(bundle_pb2.Tokenizer.Kind.Name(known) for known in _LOADERS)
        raise BundleError(f"{folder}: tokenizer kind: expected one of {known}; got {kind}. Export the model again.")
    path = folder / bundle.tokenizer.file
    if not path.is_file():
        raise BundleError(f"{path}: expected the bundle's tokenizer, found no file. Copy the whole bundle again.")
    if (size_bytes := path.stat().st_size) > MAX_FILE_BYTES:
        raise BundleError(f"{path}: expected at most {MAX_FILE_BYTES} bytes, got {size_bytes}. Export the model again.")
    tokenizer = _LOADERS[kind](path, bundle.tokenizer)
    if tokenizer.vocab_size > bundle.architecture.vocab_size:
        raise BundleError(
            f"{path}: expected token ids below the model's {bundle.architecture.vocab_size}, "
            f"got up to {tokenizer.vocab_size - 1}. Export the model again with the tokenizer it was trained with."
        )
    return tokenizer


# The libraries are imported on first use: a device loads only the one its bundle needs.
def _load_json(path: Path, info: bundle_pb2.Tokenizer) -> Tokenizer:
    from bise_daemon.chat.json_tokenizer import JsonTokenizer

    return JsonTokenizer.from_file(path, info)


def _load_mistral(path: Path, info: bundle_pb2.Tokenizer) -> Tokenizer:
    from bise_daemon.chat.mistral_tokenizer import MistralCommonTokenizer

    return MistralCommonTokenizer.from_file(path, info)


_LOADERS: dict[int, Callable[[Path, bundle_pb2.Tokenizer], Tokenizer]] = {
    bundle_pb2.Tokenizer.TOKENIZERS: _load_json,
    bundle_pb2.Tokenizer.TEKKEN: _load_mistral,
    bundle_pb2.Tokenizer.SENTENCEPIECE: _load_mistral,
}


def with_bos(token_ids: list[int], info: bundle_pb2.Tokenizer, add_bos: bool | None) -> list[int]:
    """`token_ids`, begun with the bos token where it is wanted, known, and not there already."""
    wanted = info.add_bos if add_bos is None else add_bos
    if not (wanted and info.HasField("bos_token_id")) or token_ids[:1] == [info.bos_token_id]:
        return token_ids
    return [info.bos_token_id, *token_ids]
