"""Mistral's own tokenizer files (tekken.json, SentencePiece models), run by mistral-common."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mistral_common.exceptions import MistralCommonException
from mistral_common.tokens.tokenizers.base import SpecialTokenPolicy
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
from mistral_common.tokens.tokenizers.sentencepiece import SentencePieceTokenizer
from mistral_common.tokens.tokenizers.tekken import Tekkenizer

from bise_daemon.chat.pieces import sentencepiece_bytes
from bise_daemon.chat.tokenizer import with_bos
from bise_daemon.engine.detokenize import ByteDetokenizer, Detokenizer
from bise_proto.bundle import BundleError
from bise_proto.v1 import bundle_pb2

_MOST_SPECIAL_TOKENS = 1 << 14  # published files have 1,000


class MistralCommonTokenizer:
    """Tekken and SentencePiece alike; they differ in how a token's bytes are found.

    Attributes:
        mistral: the library's tokenizer, for the chat format.
    """

    def __init__(self, mistral: MistralTokenizer[Any, Any, Any, Any, Any], info: bundle_pb2.Tokenizer) -> None:
        self.mistral = mistral
        self._info = info
        self._model = mistral.instruct_tokenizer.tokenizer
        self._piece_bytes, self._strip_first_space = _spelling(self._model)
        self.special_ids = frozenset(self._model.special_ids)
        self._special_id_of = {self._model.id_to_piece(token_id): token_id for token_id in self.special_ids}
        self._special_pattern = re.compile(
            "(" + "|".join(re.escape(text) for text in sorted(self._special_id_of, key=len, reverse=True)) + ")"
        )
        self.eos_token_ids = frozenset(info.eos_token_ids)

    @classmethod
    def from_file(cls, path: Path, info: bundle_pb2.Tokenizer) -> MistralCommonTokenizer:
        """
        Raises:
            BundleError: the file is broken, of an unknown version, or its library is not installed.
        """
        try:
            if info.kind == bundle_pb2.Tokenizer.TEKKEN:
                _check_special_tokens(path)
            return cls(MistralTokenizer.from_file(path), info)
        except ImportError as error:
            raise BundleError(
                f"{path}: expected the sentencepiece library to read it, found none. "
                "Install it: pip install 'mistral-common[sentencepiece]'"
            ) from error
        except (
            MistralCommonException,
            AssertionError,
            AttributeError,
            ValueError,
            LookupError,
            ArithmeticError,
            TypeError,
            RuntimeError,
            OSError,
        ) as error:
            # The library proves its files with asserts; whatever it trips over, the file is the reason.
            problem = getattr(error, "message", None) or f"{type(error).__name__} {error}"
            raise BundleError(
                f"{path}: expected a tokenizer that mistral-common reads, got: {problem:.300}. Export the model again."
            ) from error

    @property
    def vocab_size(self) -> int:
        return int(self._model.n_words)

    def texts_of(self, *texts: str) -> dict[int, str]:
        """Those of some special tokens' texts that there are, by the tokens' ids."""
        return {self._special_id_of[text]: text for text in texts if text in self._special_id_of}

    def encode(self, text: str, *, add_bos: bool | None = None) -> list[int]:
        token_ids: list[int] = []
        # The library never reads special tokens out of text; a raw prompt may spell them.
        for piece in self._special_pattern.split(text):
            if (special_id := self._special_id_of.get(piece)) is not None:
                token_ids.append(special_id)
            elif piece:
                token_ids += self._model.encode(piece, bos=False, eos=False)
        return with_bos(token_ids, self._info, add_bos)

    def token_bytes(self, token_id: int) -> bytes:
        return self._piece_bytes(token_id) if 0 <= token_id < self.vocab_size else b""

    def detokenizer(self, *, continues: bool = False) -> Detokenizer:
        return ByteDetokenizer(self._text_bytes, strip_first_space=self._strip_first_space and not continues)

    def _text_bytes(self, token_id: int) -> bytes:
        return b"" if token_id in self.special_ids else self.token_bytes(token_id)


def _check_special_tokens(path: Path) -> None:
    """The library makes as many special tokens as the file names, before it compares that with anything."""
    count = json.loads(path.read_bytes())["config"]["default_num_special_tokens"]
    if not 0 <= count <= _MOST_SPECIAL_TOKENS:
        raise ValueError(f"{count!s:.80} special tokens, more than {_MOST_SPECIAL_TOKENS}")


def _spelling(model: object) -> tuple[Callable[[int], bytes], bool]:
    """How to find a token's bytes, and whether a text's first space is only a word mark."""
    if isinstance(model, Tekkenizer):
        tekken = model  # bound for the closure: narrowing does not reach into it
        return lambda token_id: tekken.id_to_byte_piece(token_id, SpecialTokenPolicy.KEEP), False
    if isinstance(model, SentencePieceTokenizer):
        pieces = model
        return lambda token_id: sentencepiece_bytes(pieces.id_to_piece(token_id)), True
    raise TypeError(f"expected a tekken or SentencePiece tokenizer, got {type(model).__name__}")
