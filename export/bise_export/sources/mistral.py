"""Mistral's own form: params.json, consolidated*.safetensors with q and k for interleaved RoPE, and its tokenizer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from bise_export.errors import SourceError, UnsupportedError
from bise_export.families.config import Config
from bise_export.families.registry import build_spec
from bise_export.sources.checkpoint import Checkpoint
from bise_export.sources.inventory import half_rotated, renamed, take_inventory
from bise_export.sources.json_document import read_json
from bise_export.sources.names import MISTRAL
from bise_export.sources.shards import read_files, read_index
from bise_export.sources.tokenizer.folder import find_mistral_tokenizer
from bise_export.sources.weight import Weight

PARAMS, WEIGHTS = "params.json", "consolidated*.safetensors"
_INDEX = "consolidated.safetensors.index.json"
_NUMBERED = re.compile(r"-(\d+)-of-(\d+)\.safetensors$")

_KEYS: Mapping[str, str] = {
    "dim": "hidden_size",
    "n_layers": "num_hidden_layers",
    "head_dim": "head_dim",
    "hidden_dim": "intermediate_size",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "norm_eps": "rms_norm_eps",
    "vocab_size": "vocab_size",
    "rope_theta": "rope_theta",
    "sliding_window": "sliding_window",
    "tied_embeddings": "tie_word_embeddings",
    "max_seq_len": "max_position_embeddings",
    "max_position_embeddings": "max_position_embeddings",
}
# Keys that say nothing about the numbers: training and serving settings.
_HARMLESS = frozenset({"model_type", "causal", "max_batch_size", "model_parallel", "dtype", "torch_dtype"})
# Mistral 7B v0.2 and v0.3, whose params.json names no context, were trained for this many tokens.
_UNWRITTEN_CONTEXT = 32768


def open_mistral(folder: Path) -> Checkpoint:
    """The checkpoint in `folder`.

    Raises:
        SourceError: a file is missing or broken, or params and weights are not of one model.
        UnsupportedError: the checkpoint asks for something bise does not do.
    """
    params_file = folder / PARAMS
    tokenizer = find_mistral_tokenizer(folder)
    spec = build_spec(
        Config(
            {
                **_translated(read_json(params_file), params_file),
                "bos_token_id": tokenizer.bos_token_id,
                "eos_token_id": tokenizer.eos_token_id,
            },
            params_file,
        )
    )
    stored, weight_files = _read_weights(folder)
    weights = half_rotated(renamed(stored, MISTRAL), spec.head_dim)
    return Checkpoint(
        kind="mistral",
        name=folder.resolve().name,
        spec=spec,
        weights=take_inventory(spec, weights, folder),
        files=(params_file, *weight_files, *tokenizer.files),
        write_tokenizer=tokenizer.write,
    )


def _translated(params: Mapping[str, object], file: Path) -> dict[str, object]:
    """`params` under Hugging Face's keys; a key that bise does not know must ask for nothing."""
    for key, value in params.items():
        if key not in _KEYS and key not in _HARMLESS and value:
            raise UnsupportedError(
                f"{file}: {key!r:.80} = {value!r:.80} asks for something bise does not support yet; expected only "
                f"{', '.join(_KEYS)}. Export another checkpoint."
            )
    values: dict[str, object] = {
        "model_type": "mistral",
        "max_position_embeddings": _UNWRITTEN_CONTEXT,
        "sliding_window": None,
        "num_key_value_heads": None,
    }
    return values | {_KEYS[key]: value for key, value in params.items() if key in _KEYS}


def _read_weights(folder: Path) -> tuple[dict[str, Weight], tuple[Path, ...]]:
    if (folder / _INDEX).is_file():
        return read_index(folder / _INDEX)
    files = tuple(sorted(folder.glob(WEIGHTS)))
    for file in files:
        if (numbered := _NUMBERED.search(file.name)) and len(files) != int(numbered[2]):
            raise SourceError(
                f"{file}: expected it as one of {int(numbered[2])} files by its name, got {len(files)} in {folder}. "
                "Get the missing files."
            )
    return read_files(files), files
