"""GGUF: one file with metadata, tokenizer and tensors."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from bise_export.errors import UnsupportedError
from bise_export.families.config import Config
from bise_export.families.registry import build_spec
from bise_export.sources.checkpoint import Checkpoint
from bise_export.sources.gguf_config import architecture_of, gguf_config
from bise_export.sources.gguf_header import read_header
from bise_export.sources.gguf_rope import ROPE_TENSORS, rope_factors
from bise_export.sources.gguf_weight import gguf_weight
from bise_export.sources.inventory import half_rotated, renamed, take_inventory, unpacked
from bise_export.sources.tokenizer.gguf import GgufTokenizer
from bise_export.sources.weight import Weight

_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")
_MAX_NAME_LENGTH = 120


def open_gguf(file: Path) -> Checkpoint:
    """The checkpoint in `file`.

    Raises:
        SourceError: the file is broken, or its metadata and tensors are not of one model.
        UnsupportedError: it is split, or asks for something bise does not do.
    """
    if shard := _SHARD.search(file.name):
        raise UnsupportedError(
            f"{file}: expected a GGUF in one file, got part {shard[1]} of {shard[2]}. "
            "Join the parts with `llama-gguf-split --merge` and export the result."
        )
    header = read_header(file)
    architecture = architecture_of(header, file)
    spec = build_spec(gguf_config(header, file))
    with (metadata := Config(header.metadata, file)).blamed():
        scaling = rope_factors(header, metadata, metadata.text("general.architecture"))
        spec = spec if scaling is None else replace(spec, rope_scaling=scaling)
    stored: dict[str, Weight] = {
        name: gguf_weight(name, tensor) for name, tensor in header.tensors.items() if name not in ROPE_TENSORS
    }
    weights = unpacked(renamed(stored, architecture.names), architecture.storage, spec)
    if architecture.interleaved:
        weights = half_rotated(weights, spec.head_dim)
    tokenizer = GgufTokenizer.of(header, file, spec)
    return Checkpoint(
        kind="gguf",
        name=_name(header.metadata.get("general.name")) or file.stem,
        spec=spec,
        weights=take_inventory(spec, weights, file),
        files=(file,),
        write_tokenizer=tokenizer.write,
    )


def _name(written: object) -> str:
    """The model's own name in one printable line, or an empty one."""
    line = "".join(letter for letter in written if letter.isprintable()) if isinstance(written, str) else ""
    return line.strip()[:_MAX_NAME_LENGTH]
