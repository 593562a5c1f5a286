"""Tiny models with random weights: the same numbers wherever they are needed (tests, golden scripts)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bise_export.spec import ModelSpec

LLAMA = ModelSpec(
    family="llama",
    hidden_size=64,
    intermediate_size=128,
    num_layers=3,
    num_heads=4,
    num_kv_heads=2,
    head_dim=16,
    vocab_size=320,
    trained_context=256,
    rms_norm_eps=1e-5,
    rope_theta=10000.0,
    tied_embeddings=True,
    bos_token_id=1,
    eos_token_ids=(2,),
)
# head_dim * num_heads = 128 against a hidden size of 96, untied, as Mistral Small 3 (4096 against 5120).
MISTRAL = replace(
    LLAMA, family="mistral", hidden_size=96, num_heads=4, head_dim=32, rope_theta=1e6, tied_embeddings=False
)
SLIDING = replace(MISTRAL, sliding_window=8)
SPECS = {"llama": LLAMA, "mistral": MISTRAL, "sliding": SLIDING}


def weights(spec: ModelSpec, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Random float32 weights of every name and shape of `spec`; norms near 1, biases near 0, activations kept sane."""
    rng = np.random.default_rng(seed)
    return {
        name: (
            (not name.endswith(".bias")) + 0.1 * rng.standard_normal(shape)
            if len(shape) == 1
            else rng.standard_normal(shape) / np.sqrt(shape[1])
        ).astype(np.float32)
        for name, shape in spec.weight_shapes().items()
    }
