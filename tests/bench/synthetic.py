"""A checkpoint of Mistral Small 3's exact shapes with pseudo-random numbers: made on demand, or written to disk.

All numbers come from one tape of normally distributed bfloat16 values, on which every weight begins somewhere else and
goes round: the same whatever rows are asked for, and as fast as memory. Both forms hold the same numbers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from math import log2, prod
from pathlib import Path

import mistral_common
import numpy as np
from numpy.typing import NDArray

from bise_export.sources.checkpoint import Checkpoint
from bise_export.sources.finite import Finite
from bise_export.sources.tokenizer.mistral import TEKKEN, tekken
from bise_export.sources.weight import Float32, Weight
from bise_export.spec import ModelSpec

MISTRAL_SMALL_3 = ModelSpec(
    family="mistral",
    hidden_size=5120,
    intermediate_size=32768,
    num_layers=40,
    num_heads=32,
    num_kv_heads=8,
    head_dim=128,
    vocab_size=131072,
    trained_context=32768,
    rms_norm_eps=1e-5,
    rope_theta=100_000_000.0,
    tied_embeddings=False,
    bos_token_id=1,
    eos_token_ids=(2,),
)
# A prime, so that no row length divides it and rows differ; 8 MB as bfloat16.
_TAPE = 4_194_301
_SHARD_BYTES = 5_000_000_000
_CHUNK_ROWS = 512


@dataclass(frozen=True, slots=True)
class Generated:
    """A weight that is nowhere. Norms are ones, matrices keep the size of what passes through them."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "BF16"

    @property
    def file(self) -> Path:
        return Path("generated")

    def rows(self, start: int, stop: int) -> Float32:
        wide = self.stored(start, stop).astype(np.uint32)
        wide <<= 16
        return wide.view(np.float32).reshape(stop - start, *self.shape[1:])

    def stored(self, start: int, stop: int) -> NDArray[np.uint16]:
        """The rows' bfloat16 values, flat."""
        if len(self.shape) == 1:
            return np.full(stop - start, 0x3F80, np.uint16)  # 1.0
        columns = self.shape[1]
        # A power of two, so that bfloat16 holds the product.
        tape = _tape(-round(log2(columns) / 2))
        begin = int.from_bytes(sha256(self.name.encode()).digest()[:6]) + start * columns
        values = np.empty((stop - start) * columns, np.uint16)
        done = 0
        while done < values.size:
            at = (begin + done) % _TAPE
            piece = tape[at : at + values.size - done]
            values[done : done + piece.size] = piece
            done += piece.size
        return values


def generated(model: ModelSpec, scratch: Path) -> Checkpoint:
    """The checkpoint made on demand; only its tokenizer is written, to `scratch`."""
    shapes = model.weight_shapes()
    weights: dict[str, Weight] = {name: Finite(Generated(name, shape), name) for name, shape in shapes.items()}
    tokenizer = tekken(write_tokenizer(scratch))
    return Checkpoint("safetensors", "mistral-small-3-shapes", model, weights, tokenizer.files, tokenizer.write)


def write_tokenizer(folder: Path) -> Path:
    """Mistral's newest public tekken file, declared as v7, which is the layout of Mistral Small 3."""
    document = json.loads((Path(mistral_common.__file__).parent / "data" / "tekken_240911.json").read_bytes())
    document["config"]["version"] = "v7"
    path, text = folder / TEKKEN, json.dumps(document)
    # A killed export goes on only with files of the same time.
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
    return path


def write_checkpoint(model: ModelSpec, folder: Path) -> Path:
    """The checkpoint in Hugging Face's form, in shards of at most 5 GB; 48 GB for Mistral Small 3."""
    weights = [Generated(name, shape) for name, shape in model.weight_shapes().items()]
    shards: list[list[Generated]] = [[]]
    for weight in weights:
        if shards[-1] and 2 * sum(prod(each.shape) for each in (*shards[-1], weight)) > _SHARD_BYTES:
            shards.append([])
        shards[-1].append(weight)
    names = [f"model-{number:05}-of-{len(shards):05}.safetensors" for number in range(1, len(shards) + 1)]
    for name, shard in zip(names, shards, strict=True):
        _write_shard(folder / name, shard)
    weight_map = {weight.name: name for name, shard in zip(names, shards, strict=True) for weight in shard}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    config = {
        "architectures": ["MistralForCausalLM"],
        "model_type": "mistral",
        "hidden_size": model.hidden_size,
        "intermediate_size": model.intermediate_size,
        "num_hidden_layers": model.num_layers,
        "num_attention_heads": model.num_heads,
        "num_key_value_heads": model.num_kv_heads,
        "head_dim": model.head_dim,
        "vocab_size": model.vocab_size,
        "max_position_embeddings": model.trained_context,
        "rms_norm_eps": model.rms_norm_eps,
        "rope_theta": model.rope_theta,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "bos_token_id": model.bos_token_id,
        "eos_token_id": list(model.eos_token_ids),
        "sliding_window": None,
    }
    (folder / "config.json").write_text(json.dumps(config))
    write_tokenizer(folder)
    return folder


def _write_shard(path: Path, weights: list[Generated]) -> None:
    header: dict[str, object] = {}
    end = 0
    for weight in weights:
        begin, end = end, end + 2 * prod(weight.shape)
        header[weight.name] = {"dtype": "BF16", "shape": weight.shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for weight in weights:
            for start in range(0, weight.shape[0], _CHUNK_ROWS):
                stream.write(weight.stored(start, min(start + _CHUNK_ROWS, weight.shape[0])).astype("<u2").data)


@cache
def _tape(exponent: int) -> NDArray[np.uint16]:
    """Normal numbers times 2^exponent, as bfloat16."""
    numbers = np.random.default_rng(3).standard_normal(_TAPE, np.float32)
    return (np.ldexp(numbers, exponent).view(np.uint32) >> 16).astype(np.uint16)
