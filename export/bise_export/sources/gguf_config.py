"""GGUF metadata as a Hugging Face style config."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bise_export.errors import UnsupportedError
from bise_export.families.config import Config
from bise_export.sources.gguf_header import GgufHeader

# llama.cpp converts both Llama and Mistral to its architecture "llama".
ARCHITECTURE = "llama"
_KEYS: Mapping[str, str] = {
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "context_length": "max_position_embeddings",
    "rope.freq_base": "rope_theta",
    "attention.sliding_window": "sliding_window",
}
# Key to the values that ask for nothing; absent asks for nothing too.
_NEUTRAL: Mapping[str, tuple[object, ...]] = {
    "rope.scaling.type": ("none",),
    "rope.scaling.factor": (0, 1),
    "rope.scale_linear": (0, 1),
    "expert_count": (0,),
    "attention.causal": (True,),
    "attention.scale": (0,),
    "attention.temperature_length": (0,),
    "attention.temperature_scale": (0,),
    "embedding_scale": (0, 1),
    "residual_scale": (0, 1),
    "logit_scale": (0, 1),
}
_ROPE_FACTORS = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")
_HEAD = "output.weight"
_END_KEYS = ("eos_token_id", "eot_token_id", "eom_token_id")
# Turns also end with these in files whose metadata names only the end of the text.
_END_TOKENS = frozenset({"<|eot_id|>", "<|eom_id|>", "<|im_end|>"})


def gguf_config(header: GgufHeader, file: Path) -> Config:
    """The config of a GGUF file, under Hugging Face's keys.

    Raises:
        SourceError: a key is missing or of the wrong type.
        UnsupportedError: the file is of another architecture, or asks for something bise does not do.
    """
    metadata = Config(header.metadata, file)
    with metadata.blamed():
        architecture = metadata.text("general.architecture")
        if architecture != ARCHITECTURE:
            raise UnsupportedError(
                f"general.architecture: expected {ARCHITECTURE!r}, got {architecture!r:.80}. "
                "Export a checkpoint of the Llama or Mistral family."
            )
        _refuse_quirks(header)
        values = {key: header.metadata.get(f"{ARCHITECTURE}.{name}") for name, key in _KEYS.items()}
        tokens = metadata.sequence("tokenizer.ggml.tokens")
        config = Config(
            {
                # A window of 0 is none.
                **values,
                "sliding_window": values["sliding_window"] or None,
                "model_type": "mistral" if values["sliding_window"] else "llama",
                "vocab_size": len(tokens),
                "tie_word_embeddings": _HEAD not in header.tensors,
                "bos_token_id": metadata.optional_integer("tokenizer.ggml.bos_token_id"),
                "eos_token_id": _eos_token_ids(metadata, tokens),
            },
            file,
        )
        _check_head_sizes(metadata, config)
    return config


def _eos_token_ids(metadata: Config, tokens: list[object]) -> list[object]:
    written = [metadata.optional_integer(f"tokenizer.ggml.{key}") for key in _END_KEYS]
    named = [number for number, token in enumerate(tokens) if isinstance(token, str) and token in _END_TOKENS]
    return list(dict.fromkeys(number for number in (*written, *named) if number is not None))


def _refuse_quirks(header: GgufHeader) -> None:
    for name, neutral in _NEUTRAL.items():
        key = f"{ARCHITECTURE}.{name}"
        value = header.metadata.get(key)
        if value is not None and value not in neutral:
            raise UnsupportedError(
                f"{key} = {value!r:.80} asks for something bise does not support yet; expected "
                f"{' or '.join(map(repr, neutral))}. Export another checkpoint."
            )
    for name in _ROPE_FACTORS:
        if name in header.tensors:
            raise UnsupportedError(
                f"{name}: expected no such tensor, got one: it asks for rope scaling (llama3 or longrope), which bise "
                "does not support yet. Export a checkpoint with unscaled rotary embedding."
            )


def _check_head_sizes(metadata: Config, config: Config) -> None:
    heads = config.integer("num_attention_heads")
    head_dim = config.optional_integer("head_dim") or config.integer("hidden_size") // max(heads, 1)
    for name, what in {
        "rope.dimension_count": "rotary embedding of a part of each head",
        "attention.value_length": "values of another size than keys",
    }.items():
        size = metadata.optional_integer(f"{ARCHITECTURE}.{name}")
        if size is not None and size != head_dim:
            raise UnsupportedError(
                f"{ARCHITECTURE}.{name} = {size} asks for {what}, which bise does not support yet; "
                f"expected {head_dim}. Export another checkpoint."
            )
