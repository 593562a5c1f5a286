"""Whose logits accuracy is measured against: transformers, which shares no line with bise, or the numpy reference."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Protocol

from bise_export.errors import ExportError
from bise_export.reference import Reference
from bise_export.sources.checkpoint import Checkpoint
from bise_export.sources.weight import Float32

# transformers holds the whole model as float32, and the graph is beside it: 8 GB here. Larger ones are read in pieces.
_HELD_PARAMETERS = 2_000_000_000
# Beside a loaded graph the reference takes its weights in smaller pieces than it would alone.
_CHUNK_BYTES = 16 << 20


class Oracle(Protocol):
    """A model in float32, from the checkpoint's weights.

    Attributes:
        name: for people: the package, and what it computes in.
        version: of the package.
    """

    name: str
    version: str

    def prepare(self, prompts: Sequence[Sequence[int]]) -> None:
        """Does what takes most memory, before the graph that it is compared with is loaded."""
        ...

    def each_logits(self) -> Iterator[Float32]:
        """Next-token logits [tokens, vocab] of each of the prepared prompts."""
        ...


class Numpy:
    """bise's own reference, which takes any checkpoint, in pieces."""

    name = "numpy float32"

    def __init__(self, reference: Reference) -> None:
        self.version = version("numpy")
        self._reference = reference
        self._states: list[Float32] = []

    def prepare(self, prompts: Sequence[Sequence[int]]) -> None:
        """Takes the prompts as far as the output matrix."""
        self._states = self._reference.hidden(prompts)

    def each_logits(self) -> Iterator[Float32]:
        """As the protocol says."""
        return self._reference.each_projected(self._states)


class Transformers:
    """Hugging Face's implementation, of a folder in its own form.

    Raises:
        ExportError: it can't load the folder.
    """

    name = "transformers float32"

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        self.version = version("transformers")
        self._logits: list[Float32] = []
        try:
            self._model = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=torch.float32,
                attn_implementation="eager",
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
            ).eval()
        except (OSError, ValueError, RuntimeError) as error:
            raise ExportError(f"{folder}: transformers can't load it: {error}. Give --numpy.") from error

    def prepare(self, prompts: Sequence[Sequence[int]]) -> None:
        """Computes all logits, and lets the model go."""
        import torch

        with torch.inference_mode():
            self._logits = [self._model(torch.tensor([list(prompt)])).logits[0].numpy() for prompt in prompts]
        del self._model

    def each_logits(self) -> Iterator[Float32]:
        """As the protocol says."""
        return iter(self._logits)


def bounded(checkpoint: Checkpoint) -> Oracle:
    """The one that holds no more of a checkpoint than a piece."""
    return Numpy(Reference(checkpoint.spec, checkpoint.weights, chunk_bytes=_CHUNK_BYTES))


def independent(checkpoint: Checkpoint) -> Oracle:
    """Transformers where it is installed and can hold the model, which must be in its own form; else `bounded`."""
    parameters = sum(map(prod, checkpoint.spec.weight_shapes().values()))
    if find_spec("torch") is None or find_spec("transformers") is None or parameters > _HELD_PARAMETERS:
        return bounded(checkpoint)
    folder = checkpoint.files[0].parent
    return Transformers(folder) if _is_causal(checkpoint, folder) else bounded(checkpoint)


def _is_causal(checkpoint: Checkpoint, folder: Path) -> bool:
    """Whether the folder says of itself that transformers' class for language models is its own."""
    if checkpoint.kind != "safetensors" or checkpoint.notes:  # a part of a larger model, or another reading of it
        return False
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return any(str(name).endswith("ForCausalLM") for name in config.get("architectures") or ())
