"""Which family a config belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from bise_export.errors import UnsupportedError
from bise_export.families.config import Config
from bise_export.families.gemma2 import Gemma2
from bise_export.families.llama import Llama
from bise_export.families.mistral import Ministral, Mistral
from bise_export.families.mistral3 import Mistral3
from bise_export.families.phi3 import Phi3
from bise_export.families.qwen2 import Qwen2
from bise_export.families.storage import Storage
from bise_export.spec import ModelSpec


class Family(Protocol):
    """What a family module gives."""

    @property
    def name(self) -> str:
        """The name in `ModelSpec.family`."""
        ...

    @property
    def storage(self) -> Storage:
        """How its checkpoints in Hugging Face's form differ from Llama's."""
        ...

    def build_spec(self, config: Config) -> ModelSpec:
        """The spec of `config`.

        Raises:
            SourceError: the config is broken.
            UnsupportedError: the config asks for something bise does not do.
        """
        ...


# By transformers' `model_type`, and by the class name in `architectures` for configs without one.
FAMILIES: Mapping[str, Family] = {
    "llama": Llama(),
    "LlamaForCausalLM": Llama(),
    "mistral": Mistral(),
    "MistralForCausalLM": Mistral(),
    "ministral": Ministral(),
    "MinistralForCausalLM": Ministral(),
    "mistral3": Mistral3(),
    "Mistral3ForConditionalGeneration": Mistral3(),
    "phi3": Phi3(),
    "Phi3ForCausalLM": Phi3(),
    "gemma2": Gemma2(),
    "Gemma2ForCausalLM": Gemma2(),
    "qwen2": Qwen2(),
    "Qwen2ForCausalLM": Qwen2(),
}


def family_of(config: Config) -> Family:
    """The family of `config`, by its `model_type`, else by its `architectures`.

    Raises:
        UnsupportedError: bise knows no such family; the message lists those it knows.
    """
    model_type, architectures = config.values.get("model_type"), config.values.get("architectures")
    written = [model_type] if model_type is not None else architectures if isinstance(architectures, list) else []
    named = [name for name in written if isinstance(name, str)]
    for name in named:
        if name in FAMILIES:
            return FAMILIES[name]
    known = ", ".join(sorted({family.name for family in FAMILIES.values()}))
    got = ", ".join(repr(name[:80]) for name in named[:4]) or "no model_type or architectures"
    raise UnsupportedError(f"expected a model of the families {known}, got {got}. Export a checkpoint of one of these.")


def build_spec(config: Config) -> ModelSpec:
    """The spec of `config`, by the rules of its family.

    Raises:
        SourceError: the config is broken; the message names its file.
        UnsupportedError: no family knows it, or it asks for something bise does not do.
    """
    with config.blamed():
        return family_of(config).build_spec(config)


def storage_of(config: Config) -> Storage:
    """How a checkpoint with this config, in Hugging Face's form, holds its weights.

    Raises:
        UnsupportedError: no family knows it.
    """
    with config.blamed():
        return family_of(config).storage
