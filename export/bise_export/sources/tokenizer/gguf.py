"""The tokenizer inside a GGUF file's metadata, rebuilt for the `tokenizers` library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gguf import TokenType
from tokenizers import AddedToken, Tokenizer

from bise_export.errors import SourceError, UnsupportedError
from bise_export.families.config import Config
from bise_export.sources.checkpoint import TokenizerInfo
from bise_export.sources.gguf_header import GgufHeader
from bise_export.sources.tokenizer.byte_level_bpe import ByteLevelBpe
from bise_export.sources.tokenizer.chat import chosen_template, write_chat
from bise_export.sources.tokenizer.sentencepiece_bpe import SentencePieceBpe
from bise_export.sources.tokenizer.source import FOLDER
from bise_export.sources.tokenizer.vocabulary import TokenizerModel, Vocabulary
from bise_export.spec import ModelSpec
from bise_proto.v1 import bundle_pb2

_TOKENIZER = "tokenizer.json"
_MODELS: Mapping[str, type[TokenizerModel]] = {"gpt2": ByteLevelBpe, "llama": SentencePieceBpe}


@dataclass(frozen=True, slots=True)
class GgufTokenizer:
    """A tokenizer in GGUF metadata."""

    vocabulary: Vocabulary
    model: TokenizerModel
    template: str | None
    spec: ModelSpec

    @classmethod
    def of(cls, header: GgufHeader, file: Path, spec: ModelSpec) -> GgufTokenizer:
        """The tokenizer that the metadata of `file` describes.

        Raises:
            SourceError: a key is missing, or keys contradict each other.
            UnsupportedError: it is of a kind that bise can't rebuild; the message names it.
        """
        metadata = Config(header.metadata, file)
        with metadata.blamed():
            name = metadata.text("tokenizer.ggml.model")
            if name not in _MODELS:
                raise UnsupportedError(
                    f"tokenizer.ggml.model: expected {' or '.join(_MODELS)}, got {name!r:.80}. "
                    "Export the model's Hugging Face checkpoint."
                )
            template = chosen_template(header.metadata.get("tokenizer.chat_template"), "metadata")
            return cls(Vocabulary.of(metadata), _MODELS[name].of(metadata), template, spec)

    @property
    def files(self) -> tuple[Path, ...]:
        return ()

    def write(self, bundle: Path) -> TokenizerInfo:
        """Writes `tokenizer/`; see `TokenizerSource`."""
        with self.vocabulary.metadata.blamed():
            tokenizer = self.build()
            (bundle / FOLDER).mkdir(exist_ok=True)
            tokenizer.save(str(bundle / FOLDER / _TOKENIZER))
            bos, eos = self.spec.bos_token_id, next(iter(self.spec.eos_token_ids), None)
            tokens = self.vocabulary.tokens
            chat_format = write_chat(
                bundle, self.template, None if bos is None else tokens[bos], None if eos is None else tokens[eos]
            )
            add_bos = self.vocabulary.metadata.boolean("tokenizer.ggml.add_bos_token", self.model.add_bos)
        return TokenizerInfo(
            bundle_pb2.Tokenizer(
                kind=bundle_pb2.Tokenizer.TOKENIZERS,
                file=f"{FOLDER}/{_TOKENIZER}",
                add_bos=add_bos and bos is not None,
                bos_token_id=bos,
                eos_token_ids=self.spec.eos_token_ids,
            ),
            chat_format,
        )

    def build(self) -> Tokenizer:
        """The tokenizer; it adds no bos, which is the manifest's to say.

        Raises:
            SourceError: merges and vocabulary contradict each other.
        """
        try:
            tokenizer = self.model.build(self.vocabulary)
        except SourceError:
            raise
        except Exception as error:  # the library raises nothing narrower
            raise SourceError(
                f"tokenizer: expected merges of known tokens, got {error}. Get the file again."
            ) from error
        control, user_defined = TokenType.CONTROL, TokenType.USER_DEFINED
        tokenizer.add_special_tokens([AddedToken(t, normalized=False) for t in self.vocabulary.of_type(control)])
        tokenizer.add_tokens([AddedToken(t, normalized=False) for t in self.vocabulary.of_type(user_defined)])
        return tokenizer
