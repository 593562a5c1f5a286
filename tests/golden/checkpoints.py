"""Writes tiny checkpoints of every kind bise opens; weights are given by canonical name, in canonical layout."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import gguf
import ml_dtypes
import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, TokenType
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from bise_export.families.storage import Storage
from bise_export.sources.gguf_architecture import ARCHITECTURES
from bise_export.sources.names import MISTRAL, ROTATED, canonical, layer_of, pattern_of
from bise_export.spec import ModelSpec

Weights = Mapping[str, NDArray[np.float32]]

TEMPLATE = (
    "{% for message in messages %}{{ bos_token }}{{ message['role'] }}: {{ message['content'] }}{{ eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
)
_SPECIAL = ["<unk>", "<s>", "</s>"]
_TEKKEN_SPECIAL = 20
_SAFETENSORS_DTYPES = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype(ml_dtypes.bfloat16)}


def write_huggingface(
    folder: Path,
    spec: ModelSpec,
    weights: Weights,
    *,
    dtype: str = "F32",
    shards: int = 1,
    config: Mapping[str, object] | None = None,
) -> Path:
    """A Hugging Face checkpoint in `folder`: one safetensors file, or `shards` of them and an index."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {
        "architectures": [f"{spec.family.capitalize()}ForCausalLM"],
        "model_type": spec.family,
        "hidden_size": spec.hidden_size,
        "intermediate_size": spec.intermediate_size,
        "num_hidden_layers": spec.num_layers,
        "num_attention_heads": spec.num_heads,
        "num_key_value_heads": spec.num_kv_heads,
        "head_dim": spec.head_dim,
        "vocab_size": spec.vocab_size,
        "max_position_embeddings": spec.trained_context,
        "rms_norm_eps": spec.rms_norm_eps,
        "rope_theta": spec.rope_theta,
        "hidden_act": "silu",
        "tie_word_embeddings": spec.tied_embeddings,
        "bos_token_id": spec.bos_token_id,
        "eos_token_id": list(spec.eos_token_ids),
        "sliding_window": spec.sliding_window,
    }
    write_json(folder / "config.json", values | dict(config or {}))
    tokenizer = Tokenizer(BPE(*_vocabulary(spec.vocab_size)))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in _SPECIAL])
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(
        folder / "tokenizer_config.json",
        {"bos_token": "<s>", "eos_token": {"content": "</s>"}, "chat_template": TEMPLATE, "add_bos_token": True},
    )
    names = sorted(weights)
    if shards == 1:
        write_safetensors(folder / "model.safetensors", weights, dtype)
        return folder
    weight_map = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        held = {name: weights[name] for name in names[shard::shards]}
        write_safetensors(folder / file, held, dtype)
        weight_map |= dict.fromkeys(held, file)
    write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": weight_map})
    return folder


def write_mistral(
    folder: Path,
    spec: ModelSpec,
    weights: Weights,
    *,
    dtype: str = "F32",
    params: Mapping[str, object] | None = None,
) -> Path:
    """A checkpoint of Mistral's own form in `folder`, with a tekken tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {
        "dim": spec.hidden_size,
        "n_layers": spec.num_layers,
        "head_dim": spec.head_dim,
        "hidden_dim": spec.intermediate_size,
        "n_heads": spec.num_heads,
        "n_kv_heads": spec.num_kv_heads,
        "norm_eps": spec.rms_norm_eps,
        "vocab_size": spec.vocab_size,
        "rope_theta": spec.rope_theta,
        "max_seq_len": spec.trained_context,
        "tied_embeddings": spec.tied_embeddings,
        "sliding_window": spec.sliding_window,
    }
    write_json(folder / "params.json", values | dict(params or {}))
    write_safetensors(folder / "consolidated.safetensors", stored_as(weights, MISTRAL, spec), dtype)
    write_tekken(folder / "tekken.json", spec.vocab_size)
    return folder


def write_gguf(
    path: Path,
    spec: ModelSpec,
    weights: Weights,
    *,
    dtype: str = "F32",
    metadata: Mapping[str, str | int | float | None] | None = None,
) -> Path:
    """A GGUF file at `path`, matrices of the element type `dtype`; a `metadata` value of None leaves its key out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    vocabulary, merges = _vocabulary(spec.vocab_size)
    name = "llama" if spec.family in ("mistral", "ministral") else spec.family
    architecture, scaling = ARCHITECTURES[name], spec.rope_scaling
    writer = GGUFWriter(path, name)
    values: dict[str, str | int | float | bool | Sequence[object] | None] = {
        "general.name": "tiny",
        f"{name}.block_count": spec.num_layers,
        f"{name}.context_length": spec.trained_context,
        f"{name}.embedding_length": spec.hidden_size,
        f"{name}.feed_forward_length": spec.intermediate_size,
        f"{name}.attention.head_count": spec.num_heads,
        f"{name}.attention.head_count_kv": spec.num_kv_heads,
        f"{name}.attention.key_length": spec.head_dim,
        f"{name}.attention.value_length": spec.head_dim,
        f"{name}.attention.layer_norm_rms_epsilon": spec.rms_norm_eps,
        f"{name}.attention.sliding_window": spec.sliding_window,
        f"{name}.rope.dimension_count": spec.rotary_size,
        f"{name}.rope.freq_base": spec.rope_theta,
        f"{name}.rope.scaling.original_context_length": scaling.short_context,
        f"{name}.rope.scaling.attn_factor": scaling.magnitude if scaling.long_divisors else None,
        f"{name}.attn_logit_softcapping": spec.attention_softcap,
        f"{name}.final_logit_softcapping": spec.logit_softcap,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": list(vocabulary),
        "tokenizer.ggml.token_type": [
            TokenType.CONTROL if token in _SPECIAL else TokenType.NORMAL for token in vocabulary
        ],
        "tokenizer.ggml.merges": [" ".join(pair) for pair in merges],
        "tokenizer.ggml.bos_token_id": spec.bos_token_id,
        "tokenizer.ggml.eos_token_id": spec.eos_token_ids[0],
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.chat_template": TEMPLATE,
    }
    for key, value in (values | dict(metadata or {})).items():
        _ADD[type(value)](writer, key, value)
    kind = GGMLQuantizationType[dtype]
    fused = in_storage(weights, architecture.storage)
    factors = {"rope_factors_long.weight": scaling.long_divisors, "rope_factors_short.weight": scaling.divisors}
    if not scaling.long_divisors:
        factors = {"rope_freqs.weight": scaling.divisors}
    for tensor, numbers in factors.items():
        if numbers:
            writer.add_tensor(tensor, np.array(numbers, np.float32))
    stored = stored_as(fused, architecture.names, spec, rotated=architecture.interleaved)
    for tensor, array in stored.items():
        if array.ndim == 1:
            writer.add_tensor(tensor, array)
        else:
            writer.add_tensor(tensor, gguf.quants.quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_safetensors(path: Path, weights: Weights, dtype: str = "F32") -> Path:
    """The `weights` in one safetensors file."""
    header, data = {}, b""
    for name, array in weights.items():
        raw = array.astype(_SAFETENSORS_DTYPES[dtype]).tobytes()
        header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    return write_raw_safetensors(path, header, data)


def write_raw_safetensors(path: Path, header: object, data: bytes) -> Path:
    """A safetensors file with this header, true or not, and these bytes."""
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def write_json(path: Path, values: object) -> Path:
    """`values` as a JSON file."""
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def write_tekken(path: Path, vocab_size: int) -> Path:
    """A tekken file that mistral-common loads: bytes, then pairs of letters."""
    tokens = [bytes([byte]) for byte in range(256)] + [(left + right).encode() for left, right in _pairs()]
    tokens = tokens[: vocab_size - _TEKKEN_SPECIAL]
    config = {
        "pattern": r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        "num_vocab_tokens": len(tokens),
        "default_vocab_size": vocab_size,
        "default_num_special_tokens": _TEKKEN_SPECIAL,
        "version": "v3",
    }
    vocab = [
        {"rank": rank, "token_bytes": base64.b64encode(token).decode(), "token_str": None}
        for rank, token in enumerate(tokens)
    ]
    return write_json(path, {"config": config, "vocab": vocab})


def in_storage(weights: Weights, storage: Storage) -> dict[str, NDArray[np.float32]]:
    """`weights` as a family stores them: fused, under other names, gains less an offset."""
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
        prefixes = ((old, new) for old, new in storage.prefixes.items() if name.startswith(new))
        written, instead = next(prefixes, ("", ""))
        renamed[written + name.removeprefix(instead)] = values
    return renamed


def stored_as(
    weights: Weights, table: Mapping[str, str], spec: ModelSpec, *, rotated: bool = True
) -> dict[str, NDArray[np.float32]]:
    """`weights` as a format with this name `table` stores them; `rotated`: q and k rows for interleaved RoPE.

    A name the table does not lead to is kept, for checkpoints that are wrong on purpose.
    """
    names = {
        known: name.replace("#", str(layer))
        for name in table
        for layer in range(spec.num_layers + 1)
        if (known := canonical(name.replace("#", str(layer)), table))
    }
    return {
        names.get(name, name): interleaved(array, spec.head_dim) if rotated and pattern_of(name) in ROTATED else array
        for name, array in weights.items()
    }


def interleaved(rows: NDArray[np.float32], head_dim: int) -> NDArray[np.float32]:
    """Rows for half rotation reordered for interleaved RoPE, one by one: slow, and plainly right."""
    stored = np.empty_like(rows)
    for row in range(len(rows)):
        head, place = divmod(row, head_dim)
        half, pair = divmod(place, head_dim // 2)
        stored[head * head_dim + 2 * pair + half] = rows[row]
    return stored


def _vocabulary(size: int) -> tuple[dict[str, int], list[tuple[str, str]]]:
    tokens = [*_SPECIAL, *sorted(ByteLevel.alphabet())]
    merges = _pairs()[: size - len(tokens)]
    tokens += [left + right for left, right in merges]
    return {token: number for number, token in enumerate(tokens)}, merges


def _pairs() -> list[tuple[str, str]]:
    return [(left, right) for left in "bcdfghjklmnprstvwz" for right in "aeiou"]


_ADD = {
    str: GGUFWriter.add_string,
    int: GGUFWriter.add_uint32,
    float: GGUFWriter.add_float32,
    bool: GGUFWriter.add_bool,
    list: GGUFWriter.add_array,
    type(None): lambda writer, key, value: None,
}
