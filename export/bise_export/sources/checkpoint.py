"""A checkpoint as the export sees it, whatever form it came in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bise_export.sources.weight import Weight
from bise_export.spec import ModelSpec
from bise_proto.v1 import bundle_pb2


@dataclass(frozen=True, slots=True)
class TokenizerInfo:
    """What the manifest says of the tokenizer that was written into the bundle."""

    tokenizer: bundle_pb2.Tokenizer
    chat_format: bundle_pb2.ChatFormat


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """An opened source.

    Attributes:
        kind: "gguf", "safetensors" or "mistral".
        name: the model's own name, or the folder's.
        weights: lazy weights by canonical (Hugging Face Llama) name, exactly those of `spec.weight_shapes()`.
        files: every file the bundle's content depends on, for provenance.
        write_tokenizer: writes `tokenizer/` into the given bundle folder.
        notes: what a person should know of how this differs from the files, a sentence each.
    """

    kind: str
    name: str
    spec: ModelSpec
    weights: Mapping[str, Weight]
    files: tuple[Path, ...]
    write_tokenizer: Callable[[Path], TokenizerInfo]
    notes: tuple[str, ...] = ()
