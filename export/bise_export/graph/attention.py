"""Grouped-query attention over the KV cache, as one fused operator a layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from bise_export.graph import io
from bise_export.graph.builder import MICROSOFT, Attribute, Builder
from bise_export.graph.mixed_attention import Prompt, mixed_attention
from bise_export.quant.kv import Cache, Int8Cache
from bise_export.quant.recipes import Recipe
from bise_export.spec import ModelSpec

COS_TABLE, SIN_TABLE = "rope.cos", "rope.sin"


@dataclass(frozen=True, slots=True)
class SequenceInputs:
    """The two graph inputs that say how long each row is."""

    seqlens_k: ir.Value
    total_sequence_length: ir.Value


def scale_name(layer: int, part: str) -> str:
    """The initializer of a layer's "key" or "value" scales."""
    return f"model.layers.{layer}.self_attn.{part}_cache.scales"


def attention(
    builder: Builder,
    spec: ModelSpec,
    recipe: Recipe,
    cache: Cache,
    context: int,
    layer: int,
    qkv: ir.Value,
    lengths: SequenceInputs,
    past: tuple[ir.Value, ir.Value],
    prompt: Prompt | None,
) -> list[ir.Value]:
    """Attends, rotating queries and keys and appending to the cache.

    Args:
        context: positions the rotary tables cover.
        qkv: [batch, sequence, q_size + 2 * kv_size].
        past: key and value, each [batch, kv_heads, capacity, head_dim].
        prompt: where prompts attend in a way of their own.

    Returns:
        The attention's output [batch, sequence, q_size], and the present key and value, shaped as past; then those of
        the prompt's slot, where it has its own.
    """
    table_shape = (context, spec.rotary_size // 2)
    cos, sin = (builder.weight(name, recipe.activations, table_shape) for name in (COS_TABLE, SIN_TABLE))
    scales: list[ir.Value] = []
    if isinstance(cache, Int8Cache):
        shape = (1, spec.num_kv_heads, 1, spec.head_dim)
        scales = [builder.weight(scale_name(layer, part), np.dtype(np.float32), shape) for part in ("key", "value")]
    names = [f"model.layers.{layer}.self_attn/output", io.present(layer, "key"), io.present(layer, "value")]

    def fused(some: Builder, packed: ir.Value, outputs: list[str]) -> list[ir.Value]:
        return _fused(some, spec, layer, packed, past, lengths, (cos, sin), scales, outputs)

    if prompt is None:
        return fused(builder, qkv, names)
    both = (scales[0], scales[1])
    return mixed_attention(builder, spec, recipe, cache, layer, qkv, fused, past, prompt, (cos, sin), both, names)


def _fused(
    builder: Builder,
    spec: ModelSpec,
    layer: int,
    qkv: ir.Value,
    past: tuple[ir.Value, ir.Value],
    lengths: SequenceInputs,
    tables: tuple[ir.Value, ir.Value],
    scales: list[ir.Value],
    names: list[str],
) -> list[ir.Value]:
    """GroupQueryAttention; without scales, over a cache of floats."""
    inputs = [qkv, None, None, *past, lengths.seqlens_k, lengths.total_sequence_length, *tables]
    attributes: dict[str, Attribute] = {
        "num_heads": spec.num_heads,
        "kv_num_heads": spec.num_kv_heads,
        "do_rotary": 1,
        "rotary_interleaved": 0,
    }
    if (window := spec.window(layer)) is not None:
        attributes["local_window_size"] = window
    if spec.attention_scale is not None:
        attributes["scale"] = spec.attention_scale
    if spec.attention_softcap is not None:
        attributes["softcap"] = spec.attention_softcap
    if scales:
        inputs += [None, None, None, *scales]  # position_ids, attention_bias and head_sink are not used
        attributes |= {"k_quant_type": "PER_CHANNEL", "v_quant_type": "PER_CHANNEL", "kv_cache_bit_width": 8}
    return builder.op("GroupQueryAttention", inputs, names, MICROSOFT, **attributes)
