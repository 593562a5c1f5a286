"""What every kind of tokenizer gives, and where it goes in a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from bise_export.sources.checkpoint import TokenizerInfo

FOLDER = "tokenizer"


class TextModel(Protocol):
    """What a tokenizer must know of its model; a `ModelSpec` is one."""

    @property
    def family(self) -> str: ...

    @property
    def vocab_size(self) -> int: ...

    @property
    def bos_token_id(self) -> int | None: ...

    @property
    def eos_token_ids(self) -> tuple[int, ...]: ...


class TokenizerSource(Protocol):
    """A checkpoint's tokenizer and chat format."""

    @property
    def files(self) -> tuple[Path, ...]:
        """The files it is made from, for provenance; none if they are the weights' own."""
        ...

    def write(self, bundle: Path) -> TokenizerInfo:
        """Writes `tokenizer/` into the folder `bundle`.

        Raises:
            SourceError: the checkpoint's tokenizer is broken.
            UnsupportedError: it asks for something bise does not do.
        """
        ...
