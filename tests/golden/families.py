"""Tiny models of every family, by the config.json that transformers and bise both read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bise_export.families.config import Config
from bise_export.families.registry import build_spec, storage_of
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
    "ministral": _SIZES
    | {
        "model_type": "ministral",
        "head_dim": 32,
        "rope_theta": 1000000.0,
        "sliding_window": 8,
        "layer_types": ["full_attention", "sliding_attention", "sliding_attention"],
    },
    "mistral3": {
        "model_type": "mistral3",
        "text_config": {**_SIZES, "model_type": "mistral", "head_dim": 32, "sliding_window": None, "rope_theta": 1e6},
        "vision_config": {
            "model_type": "pixtral",
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "head_dim": 8,
            "patch_size": 2,
            "image_size": 28,
        },
        "tie_word_embeddings": False,
    },
    "phi3": _SIZES | {"model_type": "phi3", "num_key_value_heads": 4, "sliding_window": 9, "pad_token_id": 0},
    "phi4_mini": _SIZES
    | {
        "model_type": "phi3",
        "hidden_size": 128,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "partial_rotary_factor": 0.75,
        "tie_word_embeddings": True,
        "pad_token_id": 0,
        "original_max_position_embeddings": 16,
        "rope_scaling": {
            "type": "longrope",
            "short_factor": [1 + pair / 24 for pair in range(24)],
            "long_factor": [1 + pair / 2 for pair in range(24)],
        },
    },
    "gemma2": _SIZES
    | {
        "model_type": "gemma2",
        "head_dim": 32,
        "sliding_window": 8,
        "query_pre_attn_scalar": 24,
        "attn_logit_softcapping": 2.0,
        "final_logit_softcapping": 3.0,
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_activation": "gelu_pytorch_tanh",
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
# Weights that are no part of the decoder, by model.
OTHERS: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    "mistral3": {
        "vision_tower.patch_conv.weight": (16, 3, 2, 2),
        "vision_tower.ln_pre.weight": (16,),
        "vision_tower.transformer.layers.0.attention_norm.weight": (16,),
        "vision_tower.transformer.layers.0.attention.q_proj.weight": (16, 16),
        "vision_tower.transformer.layers.0.attention.k_proj.weight": (16, 16),
        "vision_tower.transformer.layers.0.attention.v_proj.weight": (16, 16),
        "vision_tower.transformer.layers.0.attention.o_proj.weight": (16, 16),
        "vision_tower.transformer.layers.0.ffn_norm.weight": (16,),
        "vision_tower.transformer.layers.0.feed_forward.gate_proj.weight": (32, 16),
        "vision_tower.transformer.layers.0.feed_forward.up_proj.weight": (32, 16),
        "vision_tower.transformer.layers.0.feed_forward.down_proj.weight": (16, 32),
        "multi_modal_projector.norm.weight": (16,),
        "multi_modal_projector.patch_merger.merging_layer.weight": (16, 64),
        "multi_modal_projector.linear_1.weight": (64, 16),
        "multi_modal_projector.linear_2.weight": (64, 64),
    }
}
SPECS: Mapping[str, ModelSpec] = {name: build_spec(Config(config, Path(name))) for name, config in CONFIGS.items()}


def write(folder: Path, name: str) -> Path:
    """The tiny checkpoint of this name in `folder`, in the form its family has on Hugging Face."""
    spec, config = SPECS[name], CONFIGS[name]
    stored = checkpoints.in_storage(tiny.weights(spec), storage_of(Config(config, Path(name))))
    stored |= {other: np.zeros(shape, np.float32) for other, shape in OTHERS.get(name, {}).items()}
    checkpoints.write_huggingface(folder, spec, stored)
    checkpoints.write_json(folder / "config.json", config)
    return folder
