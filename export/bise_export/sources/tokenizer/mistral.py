"""Mistral's own tokenizers, for mistral-common to read: tekken.json, or tokenizer.model with a version in its name."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from bise_export.errors import SourceError
from bise_export.sources.checkpoint import TokenizerInfo
from bise_export.sources.json_document import read_json
from bise_export.sources.tokenizer.huggingface import CONFIG, CONFIG_LIMIT_BYTES, TEMPLATE
from bise_export.sources.tokenizer.source import FOLDER
from bise_proto.v1 import bundle_pb2

TEKKEN = "tekken.json"
# The second is what processors of models that see images once had.
_TEMPLATES = (TEMPLATE, "chat_template.json")
_TEKKEN_LIMIT_BYTES = 256 << 20
_MOST_SPECIAL_TOKENS = 1 << 14  # published files have 1,000
_BOS, _EOS = "<s>", "</s>"
# In every SentencePiece model of Mistral's, and in tekken files that list no special tokens.
_BOS_ID, _EOS_ID = 1, 2


@dataclass(frozen=True, slots=True)
class MistralFile:
    """A tokenizer file of Mistral's own, copied as it is.

    It does not tell an instruct model from a base model. Published folders do: their tokenizer_config.json, where there
    is one, has a chat template for an instruct model and none for a base model.
    """

    file: Path
    kind: bundle_pb2.Tokenizer.Kind
    bos_token_id: int
    eos_token_id: int

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.file,)

    def write(self, bundle: Path) -> TokenizerInfo:
        """Writes `tokenizer/`; see `TokenizerSource`."""
        (bundle / FOLDER).mkdir(exist_ok=True)
        shutil.copyfile(self.file, bundle / FOLDER / self.file.name)
        return TokenizerInfo(
            bundle_pb2.Tokenizer(
                kind=self.kind,
                file=f"{FOLDER}/{self.file.name}",
                add_bos=True,
                bos_token_id=self.bos_token_id,
                eos_token_ids=[self.eos_token_id],
            ),
            bundle_pb2.NONE if self._of_base_model() else bundle_pb2.MISTRAL,
        )

    def _of_base_model(self) -> bool:
        config = self.file.with_name(CONFIG)
        if not config.is_file() or any(self.file.with_name(name).is_file() for name in _TEMPLATES):
            return False
        return read_json(config, CONFIG_LIMIT_BYTES).get("chat_template") is None


def tekken(file: Path) -> MistralFile:
    """The tekken tokenizer in `file`.

    Raises:
        SourceError: it is no tekken file, or names no beginning or end of text.
    """
    document = read_json(file, _TEKKEN_LIMIT_BYTES)
    config = document.get("config")
    if not isinstance(document.get("vocab"), list) or not isinstance(config, dict):
        raise SourceError(f"{file}: expected a tekken file with vocab and config, got neither. Get the file again.")
    # mistral-common makes as many as this says before it looks at the number.
    count = config.get("default_num_special_tokens")
    if not isinstance(count, int) or not 0 <= count <= _MOST_SPECIAL_TOKENS:
        raise SourceError(
            f"{file}: default_num_special_tokens: expected 0 to {_MOST_SPECIAL_TOKENS}, got {count!r:.80}. "
            "Get the file again."
        )
    special = document.get("special_tokens")
    ids: dict[object, object] = {_BOS: _BOS_ID, _EOS: _EOS_ID}
    if isinstance(special, list) and special:
        ids = {entry.get("token_str"): entry.get("rank") for entry in special if isinstance(entry, dict)}
    match ids.get(_BOS), ids.get(_EOS):
        case int(bos), int(eos):
            return MistralFile(file, bundle_pb2.Tokenizer.TEKKEN, bos, eos)
        case got:
            raise SourceError(f"{file}: expected ids of {_BOS} and {_EOS}, got {got}. Get the file again.")


def sentencepiece(file: Path) -> MistralFile:
    """The SentencePiece tokenizer in `file`, whose name carries mistral-common's version."""
    return MistralFile(file, bundle_pb2.Tokenizer.SENTENCEPIECE, _BOS_ID, _EOS_ID)
