"""Which tokenizer a folder holds."""

from __future__ import annotations

from pathlib import Path

from bise_export.errors import SourceError
from bise_export.sources.tokenizer.huggingface import TOKENIZER, TokenizersFolder
from bise_export.sources.tokenizer.mistral import TEKKEN, MistralFile, sentencepiece, tekken
from bise_export.sources.tokenizer.source import TextModel, TokenizerSource

_SENTENCEPIECE = "tokenizer.model*"
_MISTRAL = "mistral"


def find_tokenizer(folder: Path, spec: TextModel) -> TokenizerSource:
    """The tokenizer of a Hugging Face checkpoint: Mistral's tekken.json if it is there, since it is the original, then
    tokenizer.json, then Mistral's tokenizer.model.

    Raises:
        SourceError: there is none that bise reads, or it is broken.
    """
    if (folder / TEKKEN).is_file():
        return tekken(folder / TEKKEN)
    if (folder / TOKENIZER).is_file():
        return TokenizersFolder(folder, spec)
    if spec.family == _MISTRAL:
        return find_mistral_tokenizer(folder)
    raise SourceError(f"{folder}: expected {TOKENIZER} or {TEKKEN}, got neither. Get the checkpoint's missing files.")


def find_mistral_tokenizer(folder: Path) -> MistralFile:
    """The tokenizer of Mistral's own that is in `folder`; of several SentencePiece versions, the newest.

    Raises:
        SourceError: there is none, or it is broken.
    """
    if (folder / TEKKEN).is_file():
        return tekken(folder / TEKKEN)
    models = sorted(file for file in folder.glob(_SENTENCEPIECE) if file.is_file())
    if not models:
        raise SourceError(
            f"{folder}: expected {TEKKEN} or {_SENTENCEPIECE}, got neither. Get the checkpoint's missing files."
        )
    return sentencepiece(models[-1])
