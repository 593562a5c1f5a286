"""What onnxruntime-genai needs to open a bundle too: a graph with its inputs on the same weights, and two small files.

Its configuration must lie beside the graph, and the graph beside the weights; the tokenizer may have its own folder.
Measured with onnxruntime-genai 0.18: caches of int8 and floats, each family's graph under the type "decoder", which
makes it assume nothing of its own (under "phi3" it would change rotary factors by itself).
"""

from __future__ import annotations

import json
from pathlib import Path

import onnx_ir as ir
from tokenizers import Tokenizer
from tokenizers.models import BPE

from bise_export.errors import UnsupportedError
from bise_export.graph import io
from bise_export.graph.genai import with_attention_mask
from bise_export.sources.tokenizer.source import FOLDER
from bise_proto.v1 import bundle_pb2

GRAPH_FILE, CONFIG_FILE = "model.genai.onnx", "genai_config.json"
_TOKENIZER_CONFIG = "tokenizer_config.json"
_TYPE = "decoder"


def check(target: str, folder: Path, tokenizer: bundle_pb2.Tokenizer) -> None:
    """Refuses early what onnxruntime-genai could not open.

    Args:
        folder: the bundle's, with its tokenizer written.

    Raises:
        UnsupportedError: the bundle would not run on a CPU, has no BPE tokenizer in tokenizer.json, or no end token.
    """
    if target != "cpu":
        raise _refused("--target cpu", f"{target}, on which nothing has run it")
    if tokenizer.kind != bundle_pb2.Tokenizer.TOKENIZERS:
        name = Path(tokenizer.file).name
        raise _refused("a checkpoint with tokenizer.json", f"{name}, which onnxruntime-genai does not read")
    model = Tokenizer.from_file(str(folder / tokenizer.file)).model
    if not isinstance(model, BPE):
        raise _refused("a BPE tokenizer", f"{type(model).__name__}, with which onnxruntime-genai cuts texts otherwise")
    if not tokenizer.eos_token_ids:
        raise _refused("an end token", "a checkpoint that names none, and onnxruntime-genai would take token 0 for it")


def write(folder: Path, model: ir.Model, bundle: bundle_pb2.Bundle) -> None:
    """Writes the graph and both configurations into the bundle's `folder`.

    Args:
        model: the bundle's own graph.
        bundle: its manifest; the files need not be listed yet.
    """
    ir.save(with_attention_mask(model), folder / GRAPH_FILE)
    _write_json(folder / CONFIG_FILE, _config(bundle))
    _write_json(folder / FOLDER / _TOKENIZER_CONFIG, _tokenizer_config(folder, bundle.tokenizer))


def _config(bundle: bundle_pb2.Bundle) -> dict[str, object]:
    a, tokenizer = bundle.architecture, bundle.tokenizer
    # Padding only fills up a batch's shorter prompts; where a checkpoint has no token for it, the end token is usual.
    special: dict[str, object] = {
        "eos_token_id": list(tokenizer.eos_token_ids),
        "pad_token_id": tokenizer.eos_token_ids[0],
    }
    if tokenizer.HasField("bos_token_id"):
        special["bos_token_id"] = tokenizer.bos_token_id
    decoder = {
        "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
        "filename": GRAPH_FILE,
        "head_size": a.head_dim,
        "hidden_size": a.hidden_size,
        "inputs": {
            "input_ids": io.INPUT_IDS,
            "attention_mask": io.ATTENTION_MASK,
            "past_key_names": io.past("%d", "key"),
            "past_value_names": io.past("%d", "value"),
        },
        "outputs": {
            "logits": io.LOGITS,
            "present_key_names": io.present("%d", "key"),
            "present_value_names": io.present("%d", "value"),
        },
        "num_attention_heads": a.num_heads,
        "num_hidden_layers": a.num_layers,
        "num_key_value_heads": a.num_kv_heads,
    }
    return {
        "model": {
            "type": _TYPE,
            "context_length": bundle.graph.context,
            "vocab_size": a.vocab_size,
            "tokenizer_dir": FOLDER,
            **special,
            "decoder": decoder,
        },
        "search": {"do_sample": False, "max_length": bundle.graph.context, "past_present_share_buffer": True},
    }


def _tokenizer_config(folder: Path, stored: bundle_pb2.Tokenizer) -> dict[str, object]:
    """The class is the one that reads all from tokenizer.json; a chat template is found beside it."""
    tokenizer = Tokenizer.from_file(str(folder / stored.file))
    bos = {"bos_token": tokenizer.id_to_token(stored.bos_token_id)} if stored.HasField("bos_token_id") else {}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": stored.add_bos,
        **bos,
        "eos_token": tokenizer.id_to_token(stored.eos_token_ids[0]),
    }


def _write_json(path: Path, values: dict[str, object]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _refused(expected: str, got: str) -> UnsupportedError:
    return UnsupportedError(f"--interop genai: expected {expected}, got {got}. Leave it out.")
