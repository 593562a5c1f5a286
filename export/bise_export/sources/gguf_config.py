"""GGUF metadata as a Hugging Face style config."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bise_export.errors import UnsupportedError
from bise_export.families.config import Config
from bise_export.sources.gguf_architecture import ARCHITECTURES, GgufArchitecture
from bise_export.sources.gguf_header import GgufHeader
from bise_export.sources.gguf_rope import LONG

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
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
}
# Where these are absent, the family's own default counts, in llama.cpp too; elsewhere absent is null.
_DEFAULTED = frozenset({"sliding_window", "attn_logit_softcapping", "final_logit_softcapping"})
# Scaled rotary embedding, under the keys of a rope section.
_ROPE_KEYS: Mapping[str, str] = {
    "rope.scaling.factor": "factor",
    "rope.scaling.original_context_length": "original_max_position_embeddings",
    "rope.scaling.yarn_beta_fast": "beta_fast",
    "rope.scaling.yarn_beta_slow": "beta_slow",
}
_SCALINGS: Mapping[str, tuple[str, ...]] = {
    "linear": ("factor",),
    "yarn": ("factor", "original_max_position_embeddings", "beta_fast", "beta_slow"),
}
# Both are in tensors: see `gguf_rope`.
_UNSCALED = ("none", "longrope")
# Key to the values that ask for nothing; absent asks for nothing too.
_NEUTRAL: Mapping[str, tuple[object, ...]] = {
    "rope.scale_linear": (0, 1),
    "rope.scaling.yarn_attn_factor": (1,),
    "rope.scaling.yarn_ext_factor": (1,),
    "rope.scaling.yarn_log_multiplier": (0,),
    "expert_count": (0,),
    "attention.causal": (True,),
    "attention.scale": (0,),
    "attention.temperature_length": (0,),
    "attention.temperature_scale": (0,),
    "embedding_scale": (0, 1),
    "residual_scale": (0, 1),
    "logit_scale": (0, 1),
}
_HEAD = "output.weight"
_END_KEYS = ("eos_token_id", "eot_token_id", "eom_token_id")
# Turns also end with these in files whose metadata names only the end of the text.
_END_TOKENS = frozenset({"<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>"})
# Gemma 2 27B, by its layers: the one whose queries are scaled by another size than its heads'. llama.cpp tells it so.
_GEMMA2_27B_LAYERS = 46


def gguf_config(header: GgufHeader, file: Path) -> Config:
    """The config of a GGUF file, under Hugging Face's keys.

    Raises:
        SourceError: a key is missing or of the wrong type.
        UnsupportedError: the file is of another architecture, or asks for something bise does not do.
    """
    metadata = Config(header.metadata, file)
    architecture = architecture_of(header, file)
    with metadata.blamed():
        name = metadata.text("general.architecture")
        _refuse_quirks(header, name)
        values = {key: header.metadata.get(f"{name}.{written}") for written, key in _KEYS.items()}
        values = {key: value for key, value in values.items() if value is not None or key not in _DEFAULTED}
        tokens = metadata.sequence("tokenizer.ggml.tokens")
        if values.get("sliding_window") == 0:  # none
            values["sliding_window"] = None
        config = Config(
            {
                **values,
                "model_type": architecture.windowed_family if values.get("sliding_window") else architecture.family,
                "vocab_size": len(tokens),
                "tie_word_embeddings": _HEAD not in header.tensors,
                "bos_token_id": metadata.optional_integer("tokenizer.ggml.bos_token_id"),
                "eos_token_id": _eos_token_ids(metadata, tokens),
                "rope_scaling": _rope_section(metadata, name),
            },
            file,
        )
        return Config({**config.values, **_head_sizes(metadata, config, name)}, file)


def architecture_of(header: GgufHeader, file: Path) -> GgufArchitecture:
    """The architecture of a GGUF file.

    Raises:
        SourceError: it names none.
        UnsupportedError: bise does not know it; the message lists those it knows.
    """
    metadata = Config(header.metadata, file)
    with metadata.blamed():
        name = metadata.text("general.architecture")
        if name not in ARCHITECTURES:
            raise UnsupportedError(
                f"general.architecture: expected one of {', '.join(ARCHITECTURES)}, got {name!r:.80}. "
                "Export a checkpoint of one of these."
            )
        return ARCHITECTURES[name]


def _rope_section(metadata: Config, architecture: str) -> dict[str, object] | None:
    key = f"{architecture}.rope.scaling.factor"
    scaled = metadata.values.get(key) not in (None, 0, 1)
    # A factor without a type is linear to llama.cpp.
    kind = metadata.text(f"{architecture}.rope.scaling.type", "linear" if scaled else "none")
    if kind in _UNSCALED:
        if scaled:
            raise metadata.wrong(key, f"1 for scaling of type {kind!r}")
        return None
    if kind not in _SCALINGS:
        raise UnsupportedError(
            f"{architecture}.rope.scaling.type = {kind!r:.80} asks for rope scaling that bise does not support yet; "
            f"expected {', '.join((*_UNSCALED, *_SCALINGS))}. Export another checkpoint."
        )
    section = {key: metadata.values.get(f"{architecture}.{name}") for name, key in _ROPE_KEYS.items()}
    return {"rope_type": kind, **{key: section[key] for key in _SCALINGS[kind]}}


def _eos_token_ids(metadata: Config, tokens: list[object]) -> list[object]:
    written = [metadata.optional_integer(f"tokenizer.ggml.{key}") for key in _END_KEYS]
    named = [number for number, token in enumerate(tokens) if isinstance(token, str) and token in _END_TOKENS]
    return list(dict.fromkeys(number for number in (*written, *named) if number is not None))


def _refuse_quirks(header: GgufHeader, architecture: str) -> None:
    for name, neutral in _NEUTRAL.items():
        key = f"{architecture}.{name}"
        value = header.metadata.get(key)
        if value is not None and value not in neutral:
            raise UnsupportedError(
                f"{key} = {value!r:.80} asks for something bise does not support yet; expected "
                f"{' or '.join(map(repr, neutral))}. Export another checkpoint."
            )
    factor = header.metadata.get(f"{architecture}.rope.scaling.attn_factor")
    if factor not in (None, 1) and LONG not in header.tensors:
        raise UnsupportedError(
            f"{architecture}.rope.scaling.attn_factor = {factor!r:.80}: expected 1 without {LONG}. Export another "
            "checkpoint."
        )


def _head_sizes(metadata: Config, config: Config, architecture: str) -> dict[str, object]:
    """What follows from the size of a head: how much of it rotates, and by what its queries are scaled."""
    heads = max(config.integer("num_attention_heads"), 1)
    hidden_size = config.integer("hidden_size")
    head_dim = config.optional_integer("head_dim") or hidden_size // heads
    values = metadata.optional_integer(f"{architecture}.attention.value_length")
    if values is not None and values != head_dim:
        raise UnsupportedError(
            f"{architecture}.attention.value_length = {values} asks for values of another size than keys, which bise "
            f"does not support yet; expected {head_dim}. Export another checkpoint."
        )
    rotating = metadata.optional_integer(f"{architecture}.rope.dimension_count")
    large = config.integer("num_hidden_layers") == _GEMMA2_27B_LAYERS
    return {
        "partial_rotary_factor": 1.0 if rotating is None else rotating / max(head_dim, 1),
        "query_pre_attn_scalar": hidden_size // heads if large else head_dim,
    }
