"""Mistral Small 3.1 and 3.2: a Mistral decoder that also sees images; exported is the decoder."""

from __future__ import annotations

from dataclasses import dataclass

from bise_export.errors import UnsupportedError
from bise_export.families.config import Config
from bise_export.families.mistral import Mistral
from bise_export.families.storage import Storage
from bise_export.spec import ModelSpec

_IMAGES = "image input (vision tower and projector)"
_STORAGE = Storage(
    # As published, and as transformers 5 saves it.
    prefixes={
        "language_model.model.": "model.",
        "language_model.lm_head.": "lm_head.",
        "model.language_model.": "model.",
    },
    left_out=dict.fromkeys(
        ("vision_tower.", "multi_modal_projector.", "model.vision_tower.", "model.multi_modal_projector."), _IMAGES
    ),
)
_DECODER = "mistral"
# What generation_config.json may have put beside the decoder's own section.
_TOKEN_KEYS = ("bos_token_id", "eos_token_id")


@dataclass(frozen=True, slots=True)
class Mistral3:
    """How the config of a Mistral that sees images becomes the `ModelSpec` of its decoder."""

    name: str = "mistral"
    storage: Storage = _STORAGE

    def build_spec(self, config: Config) -> ModelSpec:
        """The spec of the section `text_config`; see `Llama.build_spec`.

        Raises:
            SourceError: there is no such section, or it is broken.
            UnsupportedError: it is of another family, or asks for something bise does not do.
        """
        text = config.section("text_config")
        if not text.values:
            raise config.wrong("text_config", "the decoder's config")
        if (kind := text.text("model_type", _DECODER)) != _DECODER:
            raise UnsupportedError(
                f"text_config: model_type: expected {_DECODER!r}, got {kind!r:.80}. Export another checkpoint."
            )
        tokens = {key: config.values[key] for key in _TOKEN_KEYS if config.has(key)}
        return Mistral(name=self.name).build_spec(Config({**text.values, **tokens}, config.file))
