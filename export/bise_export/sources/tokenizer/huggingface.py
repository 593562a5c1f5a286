"""A tokenizer in the form of the `tokenizers` library: tokenizer.json and the small files beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from bise_export.errors import SourceError
from bise_export.sources.checkpoint import TokenizerInfo
from bise_export.sources.json_document import read_json
from bise_export.sources.tokenizer.chat import chosen_template, read_template, write_chat
from bise_export.sources.tokenizer.source import FOLDER, TextModel
from bise_proto.v1 import bundle_pb2

TOKENIZER = "tokenizer.json"
CONFIG, TEMPLATE = "tokenizer_config.json", "chat_template.jinja"
CONFIG_LIMIT_BYTES = 16 << 20
_LIMIT_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class TokenizersFolder:
    """The folder with tokenizer.json; its chat template is in chat_template.jinja or in tokenizer_config.json."""

    folder: Path
    spec: TextModel

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(file for name in (TOKENIZER, CONFIG, TEMPLATE) if (file := self.folder / name).is_file())

    def write(self, bundle: Path) -> TokenizerInfo:
        """Writes `tokenizer/`; see `TokenizerSource`. Truncation and padding that the file asks for are turned off."""
        config_file = self.folder / CONFIG
        config = read_json(config_file, CONFIG_LIMIT_BYTES) if config_file.is_file() else {}
        tokenizer = self._load()
        tokenizer.no_truncation()
        tokenizer.no_padding()
        (bundle / FOLDER).mkdir(exist_ok=True)
        tokenizer.save(str(bundle / FOLDER / TOKENIZER))
        chat_format = write_chat(
            bundle,
            self._template(config),
            self._special_token(config.get("bos_token"), self.spec.bos_token_id, tokenizer),
            self._special_token(config.get("eos_token"), next(iter(self.spec.eos_token_ids), None), tokenizer),
        )
        return TokenizerInfo(
            bundle_pb2.Tokenizer(
                kind=bundle_pb2.Tokenizer.TOKENIZERS,
                file=f"{FOLDER}/{TOKENIZER}",
                add_bos=self._adds_bos(config.get("add_bos_token"), tokenizer),
                bos_token_id=self.spec.bos_token_id,
                eos_token_ids=self.spec.eos_token_ids,
            ),
            chat_format,
        )

    def _load(self) -> Tokenizer:
        file = self.folder / TOKENIZER
        if (size_bytes := file.stat().st_size) > _LIMIT_BYTES:
            raise SourceError(f"{file}: expected at most {_LIMIT_BYTES} bytes, got {size_bytes}. Get the file again.")
        try:
            tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises nothing narrower
            raise SourceError(f"{file}: expected a tokenizer, got {error!s:.300}. Get the file again.") from error
        largest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
        if largest >= self.spec.vocab_size:
            raise SourceError(
                f"{file}: expected token ids below the vocabulary's {self.spec.vocab_size}, got {largest}. "
                "Tokenizer and weights are not of one model; get both again."
            )
        return tokenizer

    def _adds_bos(self, written: object, tokenizer: Tokenizer) -> bool:
        if self.spec.bos_token_id is None:
            return False
        if isinstance(written, bool):
            return written
        # Newer tokenizers say it in their post-processor only, which shows on an empty text.
        return tokenizer.encode("", add_special_tokens=True).ids[:1] == [self.spec.bos_token_id]

    def _template(self, config: dict[str, object]) -> str | None:
        file = self.folder / TEMPLATE
        if file.is_file():
            return read_template(file)
        return chosen_template(config.get("chat_template"), str(self.folder / CONFIG))

    @staticmethod
    def _special_token(written: object, token_id: int | None, tokenizer: Tokenizer) -> str | None:
        match written:
            case str(token) | {"content": str(token)}:
                return token
            case _:
                return None if token_id is None else tokenizer.id_to_token(token_id)
