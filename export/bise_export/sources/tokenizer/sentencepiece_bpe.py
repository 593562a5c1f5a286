"""SentencePiece BPE (GGUF's "llama"): the pair whose union scores best merges first; unknown characters are bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from gguf import TokenType
from tokenizers import Tokenizer, decoders, normalizers
from tokenizers.models import BPE

from bise_export.errors import SourceError
from bise_export.families.config import Config
from bise_export.sources.tokenizer.vocabulary import Vocabulary

_SPACE = "▁"
_MERGEABLE = frozenset({TokenType.NORMAL, TokenType.USER_DEFINED, TokenType.UNUSED})
_MAX_TOKEN_LENGTH = 256


@dataclass(frozen=True, slots=True)
class SentencePieceBpe:
    """Scores, and whether a text begins as if a space came before it."""

    scores: tuple[float, ...]
    space_prefix: bool

    @property
    def add_bos(self) -> bool:
        return True

    @classmethod
    def of(cls, metadata: Config) -> Self:
        scores = metadata.sequence("tokenizer.ggml.scores")
        if not all(isinstance(score, float) and score == score for score in scores):
            raise SourceError("tokenizer.ggml.scores: expected numbers, got something else. Get the file again.")
        return cls(
            tuple(score for score in scores if isinstance(score, float)),
            metadata.boolean("tokenizer.ggml.add_space_prefix", True),
        )

    def build(self, vocabulary: Vocabulary) -> Tokenizer:
        """The tokenizer; see `TokenizerModel`."""
        if len(self.scores) != len(vocabulary.tokens):
            raise SourceError(
                f"tokenizer.ggml.scores: expected {len(vocabulary.tokens)}, got {len(self.scores)}. Get the file again."
            )
        unknown = next(iter(vocabulary.of_type(TokenType.UNKNOWN)), None)
        model = BPE(vocabulary.ids(), self._merges(vocabulary), unk_token=unknown, fuse_unk=True, byte_fallback=True)
        tokenizer = Tokenizer(model)
        prefix = [normalizers.Prepend(_SPACE)] if self.space_prefix else []
        tokenizer.normalizer = normalizers.Sequence([*prefix, normalizers.Replace(" ", _SPACE)])
        strip = [decoders.Strip(" ", 1, 0)] if self.space_prefix else []
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
        )
        return tokenizer

    def _merges(self, vocabulary: Vocabulary) -> list[tuple[str, str]]:
        """Every pair of tokens whose union is a token, best score first; pairs of one union by their ids."""
        ids = {
            token: number
            for number, (token, kind) in enumerate(zip(vocabulary.tokens, vocabulary.types, strict=True))
            if kind in _MERGEABLE
        }
        ranked = sorted(
            (-self.scores[number], number, ids[left], ids[right], left, right)
            for token, number in ids.items()
            for left, right in _splits(token)
            if left in ids and right in ids
        )
        return [(left, right) for *_, left, right in ranked]


def _splits(token: str) -> Iterator[tuple[str, str]]:
    # Longer tokens would make the pairs of a hostile vocabulary too many to hold.
    for middle in range(1, len(token) if len(token) <= _MAX_TOKEN_LENGTH else 0):
        yield token[:middle], token[middle:]
