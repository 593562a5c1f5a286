"""A `tokenizer.json`, run by the `tokenizers` library."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers

from bise_daemon.chat.pieces import byte_level_bytes, sentencepiece_bytes
from bise_daemon.chat.tokenizer import with_bos
from bise_daemon.engine.detokenize import ByteDetokenizer, Detokenizer
from bise_proto.bundle import BundleError
from bise_proto.v1 import bundle_pb2


@dataclass(frozen=True, slots=True)
class AddedToken:
    """A token that is found in text before the model sees it."""

    token_id: int
    text: str
    special: bool


@dataclass(frozen=True, slots=True)
class Encoding:
    """Token ids, and for each the characters [start, end) of the text it was made from."""

    token_ids: list[int]
    offsets: list[tuple[int, int]]


class JsonTokenizer:
    """Byte-level BPE, and SentencePiece-like models with byte fallback: tokenizers that lose no byte."""

    def __init__(self, tokenizer: tokenizers.Tokenizer, info: bundle_pb2.Tokenizer, file: Path) -> None:
        """
        Raises:
            BundleError: the decoder is of neither kind.
        """
        tokenizer.no_truncation()  # a stored limit would cut prompts silently
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._info = info
        self._piece_bytes, self._strip_first_space = _spelling(tokenizer, file)
        self.added_tokens = tuple(
            AddedToken(token_id, token.content, token.special)
            for token_id, token in sorted(tokenizer.get_added_tokens_decoder().items())
        )
        self.special_ids = frozenset(token.token_id for token in self.added_tokens if token.special)
        self._vocab_size = 1 + max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
        self.eos_token_ids = frozenset(info.eos_token_ids)

    @classmethod
    def from_file(cls, path: Path, info: bundle_pb2.Tokenizer) -> JsonTokenizer:
        """
        Raises:
            BundleError: the file can't be read by the library, or its decoder is of neither known kind.
        """
        try:
            tokenizer = tokenizers.Tokenizer.from_buffer(path.read_bytes())
        except ValueError as error:
            raise BundleError(
                f"{path}: expected a tokenizer.json, got: {error!s:.300}. Export the model again."
            ) from error
        return cls(tokenizer, info, path)

    @property
    def vocab_size(self) -> int:
        return self._vocab_size

    def encode(self, text: str, *, add_bos: bool | None = None) -> list[int]:
        return with_bos(self._tokenizer.encode(text, add_special_tokens=False).ids, self._info, add_bos)

    def encode_with_offsets(self, text: str) -> Encoding:
        """Encodes text with the added tokens in it, and says which characters each token is made from."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return Encoding(encoding.ids, encoding.offsets)

    def token_bytes(self, token_id: int) -> bytes:
        piece = self._tokenizer.id_to_token(token_id) if 0 <= token_id < self._vocab_size else None
        return b"" if piece is None else self._piece_bytes(piece)

    def detokenizer(self, *, continues: bool = False) -> Detokenizer:
        return ByteDetokenizer(self._text_bytes, strip_first_space=self._strip_first_space and not continues)

    def _text_bytes(self, token_id: int) -> bytes:
        return b"" if token_id in self.special_ids else self.token_bytes(token_id)


def _spelling(tokenizer: tokenizers.Tokenizer, file: Path) -> tuple[Callable[[str], bytes], bool]:
    """How vocabulary entries spell bytes, and whether a text's first space is only a word mark."""
    decoder = tokenizer.decoder
    # The library shows a decoder's settings only in its serialised form.
    parts = list(_flat(json.loads(decoder.__getstate__()))) if decoder is not None else []
    kinds = {part["type"] for part in parts}
    if "ByteLevel" in kinds:
        return byte_level_bytes, False
    if kinds & {"ByteFallback", "Metaspace"}:
        strips = any(
            (part["type"] == "Strip" and part.get("start", 0) > 0)
            or (part["type"] == "Metaspace" and part.get("prepend_scheme", "always") != "never")
            for part in parts
        )
        return sentencepiece_bytes, strips
    raise BundleError(
        f"{file}: decoder: expected ByteLevel, ByteFallback or Metaspace, got {sorted(kinds) or 'none'}. "
        "Only tokenizers that keep every byte can be streamed; use a checkpoint with one."
    )


def _flat(decoder: dict[str, Any]) -> list[dict[str, Any]]:
    """A decoder's parts in order; sequences can hold sequences."""
    if decoder["type"] != "Sequence":
        return [decoder]
    return [part for child in decoder["decoders"] for part in _flat(child)]
