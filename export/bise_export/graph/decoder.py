"""The whole decoder: token ids and cache in, logits and cache out."""

from __future__ import annotations

import onnx_ir as ir

from bise_export.contents import EMBEDDING, FINAL_NORM, HEAD, Matrix, matrices, vectors
from bise_export.graph import io, layers
from bise_export.graph.attention import SequenceInputs, attention
from bise_export.graph.builder import Builder
from bise_export.quant.kv import Cache
from bise_export.quant.recipes import Recipe
from bise_export.spec import ModelSpec
from bise_export.writer import Layout


def build(
    spec: ModelSpec, recipe: Recipe, cache: Cache, context: int, layout: Layout, weight_file: str, version: str
) -> ir.Model:
    """Builds the graph and, as it names its weights, fills `layout` with their places in `weight_file`.

    Args:
        context: tokens one row may hold.
        version: of bise, for the model's producer field.
    """
    builder = Builder(layout, weight_file)
    by_name = {matrix.name: matrix for matrix in matrices(spec, recipe)}
    norms = {vector.name: vector for vector in vectors(spec)}
    activations = ir.DataType.from_numpy(recipe.activations)
    cached = ir.DataType.from_numpy(cache.dtype)

    input_ids = ir.val(io.INPUT_IDS, ir.DataType.INT64, ["batch", "sequence"])
    seqlens_k = ir.val(io.SEQLENS_K, ir.DataType.INT32, ["batch"])
    total = ir.val(io.TOTAL_SEQUENCE_LENGTH, ir.DataType.INT32, [])
    positions = ir.val(io.LOGITS_POSITIONS, ir.DataType.INT64, ["batch", "num_logits"])
    inputs = [input_ids, seqlens_k, total, positions]
    cache_shape: list[int | str | None] = ["batch", spec.num_kv_heads, "capacity", spec.head_dim]
    lengths = SequenceInputs(seqlens_k, total)
    presents: list[ir.Value] = []

    residual = layers.embedding(builder, recipe, input_ids, by_name[EMBEDDING])  # [batch, sequence, hidden]
    update: ir.Value | None = None
    for layer in range(spec.num_layers):
        prefix = f"model.layers.{layer}."
        before_attention = norms[f"{prefix}input_layernorm.weight"]
        if update is None:
            x = layers.norm(builder, recipe, residual, before_attention, spec.rms_norm_eps)
        else:
            x, residual = layers.add_norm(builder, recipe, residual, update, before_attention, spec.rms_norm_eps)
        qkv = layers.linear(builder, recipe, x, by_name[f"{prefix}self_attn.qkv_proj"])
        past = (
            ir.val(io.past(layer, "key"), cached, cache_shape),
            ir.val(io.past(layer, "value"), cached, cache_shape),
        )
        inputs += past
        attended, *present = attention(builder, spec, recipe, cache, context, layer, qkv, lengths, past)
        presents += present
        update = layers.linear(builder, recipe, attended, by_name[f"{prefix}self_attn.o_proj"])
        after_attention = norms[f"{prefix}post_attention_layernorm.weight"]
        x, residual = layers.add_norm(builder, recipe, residual, update, after_attention, spec.rms_norm_eps)
        gate_up, down = by_name[f"{prefix}mlp.gate_up_proj"], by_name[f"{prefix}mlp.down_proj"]
        update = layers.feed_forward(builder, recipe, x, gate_up, down)

    assert update is not None, "a model has at least one layer"
    x, _ = layers.add_norm(builder, recipe, residual, update, norms[FINAL_NORM], spec.rms_norm_eps)
    x = _gather_positions(builder, x, positions)  # [batch, num_logits, hidden]
    logits = _head(builder, recipe, x, by_name)
    vocabulary_shape: list[int | str | None] = ["batch", "num_logits", spec.vocab_size]
    for value, shape in (
        (logits, vocabulary_shape),
        *((each, cache_shape) for each in presents),
    ):
        value.shape = ir.Shape(shape)
        value.type = ir.TensorType(activations if value is logits else cached)
    return builder.model(inputs, [logits, *presents], f"{spec.family}-decoder", version)


def _gather_positions(builder: Builder, x: ir.Value, positions: ir.Value) -> ir.Value:
    """Rows of x [batch, sequence, hidden] at positions [batch, num_logits]: the head sees only what is asked for."""
    (indices,) = builder.op("Unsqueeze", [positions, builder.constant("last_axis", [-1])], ["logits_indices"])
    return builder.op("GatherND", [x, indices], ["hidden_states"], batch_dims=1)[0]


def _head(builder: Builder, recipe: Recipe, x: ir.Value, by_name: dict[str, Matrix]) -> ir.Value:
    embedding = by_name[EMBEDDING]
    head = by_name.get(HEAD)
    tied_to = None if head else EMBEDDING
    head = head or Matrix(HEAD, embedding.parts, embedding.rows, embedding.columns, embedding.format, "head")
    logits = layers.linear(builder, recipe, x, head, tied_to)
    logits.name = io.LOGITS
    return logits
