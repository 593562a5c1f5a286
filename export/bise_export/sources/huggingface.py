"""Hugging Face's form: config.json, safetensors in one file or many, and the tokenizer's files beside them."""

from __future__ import annotations

from pathlib import Path

from bise_export.families.config import Config
from bise_export.families.registry import build_spec, storage_of
from bise_export.sources.checkpoint import Checkpoint
from bise_export.sources.inventory import left_out, renamed, take_inventory, unpacked
from bise_export.sources.json_document import read_json
from bise_export.sources.names import HUGGING_FACE
from bise_export.sources.shards import read_files, read_index
from bise_export.sources.tokenizer.folder import find_tokenizer

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
_GENERATION_CONFIG = "generation_config.json"
# What generation goes by, where the two files differ.
_GENERATION_KEYS = ("bos_token_id", "eos_token_id")


def open_huggingface(folder: Path) -> Checkpoint:
    """The checkpoint in `folder`.

    Raises:
        SourceError: a file is missing or broken, or config and weights are not of one model.
        UnsupportedError: the checkpoint asks for something bise does not do.
    """
    config_file, generation_file = folder / CONFIG, folder / _GENERATION_CONFIG
    files = [config_file]
    values = read_json(config_file)
    if generation_file.is_file():
        files.append(generation_file)
        generation = read_json(generation_file)
        values |= {key: generation[key] for key in _GENERATION_KEYS if generation.get(key) is not None}
    config = Config(values, config_file)
    spec, storage = build_spec(config), storage_of(config)
    if (folder / WEIGHTS).is_file():
        weight_files: tuple[Path, ...] = (folder / WEIGHTS,)
        stored = read_files(weight_files)
    else:
        stored, weight_files = read_index(folder / INDEX)
        files.append(folder / INDEX)
    tokenizer = find_tokenizer(folder, spec)
    stored, notes = left_out(stored, storage)
    return Checkpoint(
        kind="safetensors",
        name=folder.resolve().name,
        spec=spec,
        weights=take_inventory(spec, renamed(unpacked(stored, storage, spec), HUGGING_FACE), folder),
        files=(*files, *weight_files, *tokenizer.files),
        write_tokenizer=tokenizer.write,
        notes=tuple(notes),
    )
