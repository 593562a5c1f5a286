"""What stands beside a decoder's graph: config.json and generation_config.json, or onnxruntime-genai's one file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bise_export.errors import SourceError
from bise_export.families.config import Config
from bise_export.foreign.decoder import Decoder
from bise_export.sources.json_document import read_json

_CONFIG, _GENERATION, _GENAI = "config.json", "generation_config.json", "genai_config.json"
_GENERATION_KEYS = ("bos_token_id", "eos_token_id")
# onnxruntime-genai's names of what config.json calls otherwise.
_RENAMED: Mapping[str, str] = {
    "model_type": "type",
    "max_position_embeddings": "context_length",
    "vocab_size": "vocab_size",
    "bos_token_id": "bos_token_id",
    "eos_token_id": "eos_token_id",
}
_RENAMED_IN_DECODER: Mapping[str, str] = {
    "head_dim": "head_size",
    "hidden_size": "hidden_size",
    "num_attention_heads": "num_attention_heads",
    "num_hidden_layers": "num_hidden_layers",
    "num_key_value_heads": "num_key_value_heads",
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What the graph does not say of its model; 0 and "unknown" where its files do not either.

    Attributes:
        files: where this was read, for provenance.
    """

    files: tuple[Path, ...]
    family: str
    hidden_size: int
    intermediate_size: int
    num_heads: int
    head_dim: int
    vocab_size: int
    trained_context: int
    bos_token_id: int | None
    eos_token_ids: tuple[int, ...]


def read_facts(folder: Path, decoder: Decoder) -> Facts:
    """The facts in `folder`, where they agree with the graph.

    Raises:
        SourceError: neither configuration is there, or one is broken, or not of this graph.
    """
    config, files = _config(folder)
    with config.blamed():
        hidden_size = config.integer("hidden_size", 0)
        num_heads = config.integer("num_attention_heads", 0)
        head_dim = config.optional_integer("head_dim") or decoder.head_dim or (num_heads and hidden_size // num_heads)
        bos_ids = config.token_ids("bos_token_id", ())
        facts = Facts(
            files=files,
            family=config.text("model_type", "unknown"),
            hidden_size=hidden_size,
            intermediate_size=config.integer("intermediate_size", 0),
            num_heads=num_heads,
            head_dim=head_dim,
            vocab_size=decoder.vocab_size or config.integer("vocab_size"),
            trained_context=config.integer("max_position_embeddings"),
            bos_token_id=bos_ids[0] if bos_ids else None,
            eos_token_ids=config.token_ids("eos_token_id", ()),
        )
        for key, said, in_graph in (
            ("num_hidden_layers", config.integer("num_hidden_layers", decoder.num_layers), decoder.num_layers),
            ("num_key_value_heads", config.integer("num_key_value_heads", num_heads), decoder.num_kv_heads),
            ("head_dim", head_dim, decoder.head_dim or head_dim),
        ):
            if said != in_graph:
                raise SourceError(f"{key}: expected {in_graph}, as the graph has it, got {said}. Get both files again.")
        _check_sizes(facts, decoder.num_layers)
    return facts


def _check_sizes(facts: Facts, num_layers: int) -> None:
    for name, size, largest in (
        ("num_hidden_layers", num_layers, 1 << 10),
        ("head_dim", facts.head_dim, 1 << 10),
        ("vocab_size", facts.vocab_size, 1 << 21),
        ("max_position_embeddings", facts.trained_context, 1 << 24),
    ):
        if not 1 <= size <= largest:
            raise SourceError(f"{name}: expected 1 to {largest}, got {size}. Get the file again.")
    for token_id in (*facts.eos_token_ids, *(() if facts.bos_token_id is None else (facts.bos_token_id,))):
        if not 0 <= token_id < facts.vocab_size:
            raise SourceError(f"special token id: expected 0 to {facts.vocab_size - 1}, got {token_id}.")


def _config(folder: Path) -> tuple[Config, tuple[Path, ...]]:
    if (file := folder / _CONFIG).is_file():
        values, files = read_json(file), [file]
        if isinstance(text := values.get("text_config"), dict):
            values |= text
        if (generation_file := folder / _GENERATION).is_file():
            generation = read_json(generation_file)
            values |= {key: generation[key] for key in _GENERATION_KEYS if generation.get(key) is not None}
            files.append(generation_file)
        return Config(values, file), tuple(files)
    if (file := folder / _GENAI).is_file():
        model = Config(read_json(file), file).section("model")
        decoder = model.section("decoder")
        values = {ours: model.values[theirs] for ours, theirs in _RENAMED.items() if model.has(theirs)}
        values |= {ours: decoder.values[theirs] for ours, theirs in _RENAMED_IN_DECODER.items() if decoder.has(theirs)}
        return Config(values, file), (file,)
    raise SourceError(
        f"{folder}: the graph: expected {_CONFIG} or {_GENAI} beside it, found neither. Copy the checkpoint's there."
    )
