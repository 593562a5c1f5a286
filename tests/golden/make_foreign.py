"""Records tiny decoders as other exporters write them (tests/golden/foreign), and what transformers says of one.

Needs the `reference` extra, and for optimum-onnx an environment of its own, since it takes an older transformers. From
the root, with a FOLDER to throw away:

    python tests/golden/make_foreign.py FOLDER
    python -m onnxruntime_genai.models.builder -i FOLDER/llama -o tests/golden/foreign/genai -p int4 -e cpu
    optimum-cli export onnx --model FOLDER/sliding --task text-generation-with-past tests/golden/foreign/optimum

Made with onnxruntime-genai 0.18.0 and optimum-onnx 0.1.0 (transformers 4.57.6); torch 2.13.0 for both.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
FOLDER = HERE / "foreign"
TOKENS = FOLDER / "greedy.json"
PROMPTS = [[1, 17, 301, 4, 4, 250, 99, 12, 3, 277, 64, 5, 120, 8, 319], [11, 5, 300], [1]]
MAX_TOKENS = 32


def main(folder: Path) -> None:
    """Writes both checkpoints into `folder`, and `greedy.json`."""
    import torch
    from transformers import AutoModelForCausalLM

    from golden import checkpoints, tiny

    for name in ("llama", "sliding"):
        spec = replace(
            tiny.SPECS[name],
            hidden_size=32,
            intermediate_size=64,
            num_layers=2,
            num_heads=2,
            num_kv_heads=1,
            head_dim=16,
            tied_embeddings=True,
        )
        checkpoints.write_huggingface(folder / name, spec, tiny.weights(spec))
        # The form that both versions of transformers read.
        named = {"bos_token": "<s>", "eos_token": "</s>", "tokenizer_class": "PreTrainedTokenizerFast"}
        checkpoints.write_json(folder / name / "tokenizer_config.json", named | {"chat_template": checkpoints.TEMPLATE})
    model = AutoModelForCausalLM.from_pretrained(folder / "sliding", dtype=torch.float32).eval()
    answers = []
    with torch.no_grad():
        for prompt in PROMPTS:
            tokens = list(prompt)
            while len(tokens) < len(prompt) + MAX_TOKENS:
                tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
            answers.append(tokens[len(prompt) :])
    FOLDER.mkdir(exist_ok=True)
    TOKENS.write_text(json.dumps({"prompts": PROMPTS, "transformers": answers}) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.path[:0] = [str(HERE.parent), str(HERE.parents[1] / "export"), str(HERE.parents[1] / "proto")]
    main(Path(sys.argv[1]))
