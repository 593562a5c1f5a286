"""Tiny models of every family, by the config.json that transformers and bise both read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bise_export.families.config import Config
from bise_export.families.registry import build_spec, storage_of
from bise_export.families.storage import Storage
from bise_export.sources.names import layer_of, pattern_of
from bise_export.spec import ModelSpec
from golden import checkpoints, tiny

_SIZES = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
# Contexts before stretching are short, so that the prompts of `make_logits` feel the scaling.
CONFIGS: Mapping[str, Mapping[str, object]] = {
    "llama3": _SIZES
    | {
        "model_type": "llama",
        "rope_theta": 500.0,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    },
    "llama_linear": _SIZES
    | {
        "model_type": "llama",
        "attention_bias": True,
        "mlp_bias": True,
        "rope_scaling": {"type": "linear", "factor": 4.0},
    },
    "qwen2": _SIZES
    | {
        "model_type": "qwen2",
        "tie_word_embeddings": True,
        "rope_theta": 1000000.0,
        "use_sliding_window": False,
        "sliding_window": 8,
        "max_window_layers": 3,
    },
    "qwen2_yarn": _SIZES
    | {
        "model_type": "qwen2",
        "rope_theta": 100.0,
        "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
        "use_sliding_window": True,
        "sliding_window": 8,
        "max_window_layers": 1,
    },
}
SPECS: Mapping[str, ModelSpec] = {name: build_spec(Config(config, Path(name))) for name, config in CONFIGS.items()}


def write(folder: Path, name: str) -> Path:
    """The tiny checkpoint of this name in `folder`, in the form its family has on Hugging Face."""
    spec, config = SPECS[name], CONFIGS[name]
    stored = _stored(tiny.weights(spec), storage_of(Config(config, Path(name))))
    checkpoints.write_huggingface(folder, spec, stored)
    checkpoints.write_json(folder / "config.json", config)
    return folder


def _stored(weights: Mapping[str, NDArray[np.float32]], storage: Storage) -> dict[str, NDArray[np.float32]]:
    """`weights` by canonical names as the family stores them; transformers finds out if that is wrong."""
    found = dict(weights)
    for name in weights:
        if len(weights[name].shape) == 1 and name.endswith("norm.weight"):
            found[name] = weights[name] - np.float32(storage.gain_offset)
        for fused, parts in storage.fused.items():
            if pattern_of(name) == parts[0]:
                names = [part.replace("#", layer_of(name)) for part in parts]
                found[fused.replace("#", layer_of(name))] = np.concatenate([found.pop(each) for each in names])
    renamed = {}
    for name, values in found.items():
        written, instead = next(((old, new) for old, new in storage.prefixes.items() if name.startswith(new)), ("", ""))
        renamed[written + name.removeprefix(instead)] = values
    return renamed
