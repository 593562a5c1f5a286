"""Golden logits of the tiny models, computed by transformers: an oracle that shares no line with bise.

Run it (`python tests/golden/make_logits.py`, needs the `reference` extra) when `tiny.py` or `families.py` changes, and
commit what it writes: `logits.npz` beside it, one float32 array [tokens, vocab] per model and prompt, and what made
them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
LOGITS = HERE / "logits.npz"

# Longer than the window of `tiny.SLIDING`, and one token alone.
PROMPTS = {
    "long": [1, 17, 301, 4, 4, 250, 99, 12, 3, 277, 64, 5, 120, 8, 319, 0, 33, 210, 7, 1, 42, 42, 42, 9],
    "short": [11, 5, 300],
    "single": [1],
}
FAMILY_PROMPTS = ("long", "short")


def transformers_logits(name: str) -> dict[str, NDArray[np.float32]]:
    """Logits [tokens, vocab] of every prompt under the tiny model `name`."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

    from golden import tiny

    spec = tiny.SPECS[name]
    numbers = {
        "vocab_size": spec.vocab_size,
        "hidden_size": spec.hidden_size,
        "intermediate_size": spec.intermediate_size,
        "num_hidden_layers": spec.num_layers,
        "num_attention_heads": spec.num_heads,
        "num_key_value_heads": spec.num_kv_heads,
        "head_dim": spec.head_dim,
        "max_position_embeddings": spec.trained_context,
        "rms_norm_eps": spec.rms_norm_eps,
        "rope_parameters": {"rope_type": "default", "rope_theta": spec.rope_theta},
        "tie_word_embeddings": spec.tied_embeddings,
        "attn_implementation": "eager",
    }
    model = (
        LlamaForCausalLM(LlamaConfig(**numbers))
        if spec.family == "llama"
        else MistralForCausalLM(MistralConfig(**numbers, sliding_window=spec.sliding_window))
    )
    state = {weight: torch.from_numpy(values) for weight, values in tiny.weights(spec).items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    if unexpected or set(missing) - {"lm_head.weight"} or ("lm_head.weight" in missing) != spec.tied_embeddings:
        raise SystemExit(f"{name}: expected every weight to have its place, got missing {missing}, extra {unexpected}")
    model.tie_weights()
    model.eval()
    with torch.no_grad():
        return {key: model(torch.tensor([ids])).logits[0].numpy() for key, ids in PROMPTS.items()}


def family_logits(name: str) -> dict[str, NDArray[np.float32]]:
    """Logits [tokens, vocab] of the longer prompts under `families.write`, as transformers reads its files."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    from golden import families

    with TemporaryDirectory() as folder:
        families.write(Path(folder), name)
        images = "vision_config" in families.CONFIGS[name]
        model, info = (AutoModelForImageTextToText if images else AutoModelForCausalLM).from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
        )
        known = AutoConfig.from_pretrained(folder)
    if problems := {key: found for key, found in info.items() if found}:
        raise SystemExit(f"{name}: expected every weight of {known.model_type} to have its place, got {problems}")
    model.eval()
    with torch.no_grad():
        return {key: model(torch.tensor([PROMPTS[key]])).logits[0].numpy() for key in FAMILY_PROMPTS}


def main() -> None:
    """Writes `logits.npz`."""
    import torch
    import transformers

    from golden import families, tiny

    arrays = {f"{name}/{key}": values for name in tiny.SPECS for key, values in transformers_logits(name).items()}
    arrays |= {f"{name}/{key}": values for name in families.SPECS for key, values in family_logits(name).items()}
    made_with = np.array(
        f"transformers {transformers.__version__}, torch {torch.__version__}, float32, eager attention"
    )
    np.savez_compressed(LOGITS, made_with=made_with, **arrays)
    print(f"{LOGITS.name}: {len(arrays)} arrays, {LOGITS.stat().st_size} bytes")


if __name__ == "__main__":
    sys.path[:0] = [str(HERE.parent), str(HERE.parents[1] / "export"), str(HERE.parents[1] / "proto")]
    main()
