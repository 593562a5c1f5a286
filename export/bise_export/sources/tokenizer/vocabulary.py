"""The tokens of a GGUF file, and what kind each is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

from gguf import TokenType
from tokenizers import Tokenizer

from bise_export.errors import SourceError
from bise_export.families.config import Config


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Tokens by id, as the checkpoint writes them.

    Attributes:
        tokens: distinct texts.
        types: `gguf.TokenType` values, as many as tokens.
        metadata: the GGUF metadata all this is from.
    """

    tokens: tuple[str, ...]
    types: tuple[int, ...]
    metadata: Config

    @classmethod
    def of(cls, metadata: Config) -> Vocabulary:
        """The vocabulary in `metadata`.

        Raises:
            SourceError: tokens or types are missing, of the wrong type, repeated, or not as many as each other.
        """
        tokens = [token for token in metadata.sequence("tokenizer.ggml.tokens") if isinstance(token, str)]
        types = [kind for kind in metadata.sequence("tokenizer.ggml.token_type") if isinstance(kind, int)]
        written = len(metadata.sequence("tokenizer.ggml.tokens"))
        if not written == len(tokens) == len(types) or not tokens:
            raise SourceError(
                f"tokenizer.ggml: expected as many token types as tokens, got {len(types)} and {len(tokens)} in a list "
                f"of {written}. Get the file again."
            )
        if len(set(tokens)) != len(tokens):
            raise SourceError(
                f"tokenizer.ggml.tokens: expected {len(tokens)} different tokens, got {len(set(tokens))}. "
                "Export the model's Hugging Face checkpoint."
            )
        return cls(tuple(tokens), tuple(types), metadata)

    def ids(self) -> dict[str, int]:
        """Token to id."""
        return {token: number for number, token in enumerate(self.tokens)}

    def of_type(self, kind: TokenType) -> list[str]:
        """The tokens of one type, by id."""
        return [token for token, of in zip(self.tokens, self.types, strict=True) if of == kind]


class TokenizerModel(Protocol):
    """One kind of tokenizer that GGUF metadata describes."""

    @property
    def add_bos(self) -> bool:
        """What llama.cpp does where the metadata does not say."""
        ...

    @classmethod
    def of(cls, metadata: Config) -> Self:
        """This kind's own settings in `metadata`.

        Raises:
            SourceError: one is missing or of the wrong type.
            UnsupportedError: one asks for something bise can't rebuild.
        """
        ...

    def build(self, vocabulary: Vocabulary) -> Tokenizer:
        """The tokenizer, without added tokens.

        Raises:
            SourceError: the settings and the vocabulary contradict each other.
        """
        ...
