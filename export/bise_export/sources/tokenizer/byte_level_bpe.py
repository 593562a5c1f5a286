"""Byte-level BPE (GGUF's "gpt2"): merges in order, over words in GPT-2's byte alphabet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel
from tokenizers.models import BPE

from bise_export.errors import SourceError, UnsupportedError
from bise_export.families.config import Config
from bise_export.sources.tokenizer.pretokenizers import PRE_TOKENIZERS, PreTokenizerKind
from bise_export.sources.tokenizer.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class ByteLevelBpe:
    """Merges, and how text is split before merging."""

    kind: PreTokenizerKind
    merges: tuple[tuple[str, str], ...]

    @property
    def add_bos(self) -> bool:
        return self.kind.add_bos

    @classmethod
    def of(cls, metadata: Config) -> Self:
        name = metadata.text("tokenizer.ggml.pre", "default")
        if name not in PRE_TOKENIZERS:
            raise UnsupportedError(
                f"tokenizer.ggml.pre: expected one of {', '.join(PRE_TOKENIZERS)}, got {name!r:.80}. "
                "Export the model's Hugging Face checkpoint."
            )
        return cls(PRE_TOKENIZERS[name], tuple(map(_pair, metadata.sequence("tokenizer.ggml.merges"))))

    def build(self, vocabulary: Vocabulary) -> Tokenizer:
        """The tokenizer; see `TokenizerModel`."""
        model = BPE(vocabulary.ids(), list(self.merges), ignore_merges=self.kind.ignore_merges)
        tokenizer = Tokenizer(model)
        tokenizer.pre_tokenizer = self.kind.build()
        tokenizer.decoder = ByteLevel()
        return tokenizer


def _pair(merge: object) -> tuple[str, str]:
    # A space separates the two; the byte alphabet has none, but a merge may begin with one in other alphabets.
    if isinstance(merge, str) and (middle := merge.find(" ", 1)) > 0 and middle + 1 < len(merge):
        return merge[:middle], merge[middle + 1 :]
    raise SourceError(f"tokenizer.ggml.merges: expected two tokens and a space between, got {merge!r:.80}.")
