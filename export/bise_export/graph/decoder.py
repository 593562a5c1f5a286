"""The whole decoder: token ids and cache in, logits and cache out."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from bise_export.contents import EMBEDDING, FINAL_NORM, HEAD, matrices, pieces_of, vectors
from bise_export.graph import io, layers
from bise_export.graph.attention import SequenceInputs, attention
from bise_export.graph.builder import Builder
from bise_export.graph.mixed_attention import Prompt
from bise_export.graph.prompt_attention import prompt_steps
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
    found = matrices(spec, recipe)
    by_name = {matrix.name: matrix for matrix in found}
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
    steps = None
    if recipe.prompt_attention == "float":
        tokens, end = (ir.val(name, ir.DataType.INT64, []) for name in (io.PROMPT_TOKENS, io.PROMPT_TOTAL))
        inputs += [tokens, end]
        steps = prompt_steps(builder, spec, input_ids, tokens, end)

    def norm(x: ir.Value, name: str) -> ir.Value:
        return layers.norm(builder, recipe, x, norms[name], spec.rms_norm_eps)

    def add_norm(x: ir.Value, update: ir.Value, name: str) -> tuple[ir.Value, ir.Value]:
        return layers.add_norm(builder, recipe, x, update, norms[name], spec.rms_norm_eps)

    residual = layers.embedding(builder, recipe, input_ids, pieces_of(found, EMBEDDING))  # [batch, sequence, hidden]
    if spec.embedding_scale != 1:
        residual = layers.scaled(builder, recipe, residual, spec.embedding_scale, f"{EMBEDDING}/scaled")
    placed = spec.norms
    update: ir.Value | None = None
    for layer in range(spec.num_layers):
        prefix = f"model.layers.{layer}."
        before_attention = f"{prefix}{placed.attention_in}.weight"
        if update is None:
            x = norm(residual, before_attention)
        else:
            x, residual = add_norm(residual, update, before_attention)
        qkv = layers.linear(builder, recipe, x, by_name[f"{prefix}self_attn.qkv_proj"])
        past = _pair(io.past, layer, cached, cache_shape)
        held, prompt = list(past), None
        if steps is not None:
            prompt = Prompt(steps, _pair(io.prompt_past, layer, cached, [1, *cache_shape[1:]]))
            held += prompt.past
        inputs += held
        attended, *present = attention(builder, spec, recipe, cache, context, layer, qkv, lengths, past, prompt)
        for value, before in zip(present, held, strict=True):
            value.shape, value.type = before.shape, before.type
        presents += present
        update = layers.linear(builder, recipe, attended, by_name[f"{prefix}self_attn.o_proj"])
        if placed.attention_out is not None:
            update = norm(update, f"{prefix}{placed.attention_out}.weight")
        x, residual = add_norm(residual, update, f"{prefix}{placed.mlp_in}.weight")
        gate_up, down = by_name[f"{prefix}mlp.gate_up_proj"], by_name[f"{prefix}mlp.down_proj"]
        update = layers.feed_forward(builder, recipe, x, gate_up, down, spec.activation)
        if placed.mlp_out is not None:
            update = norm(update, f"{prefix}{placed.mlp_out}.weight")

    assert update is not None, "a model has at least one layer"
    x, _ = add_norm(residual, update, FINAL_NORM)
    x = _gather_positions(builder, x, positions)  # [batch, num_logits, hidden]
    logits = layers.head(builder, recipe, x, pieces_of(found, HEAD), tied_to=pieces_of(found, EMBEDDING))
    if spec.logit_softcap is not None:
        logits = layers.soft_capped(builder, recipe, logits, spec.logit_softcap, f"{HEAD}/capped")
    logits.name = io.LOGITS
    vocabulary_shape: list[int | str | None] = ["batch", "num_logits", spec.vocab_size]
    logits.shape, logits.type = ir.Shape(vocabulary_shape), ir.TensorType(activations)
    return builder.model(inputs, [logits, *presents], f"{spec.family}-decoder", version)


def _pair(
    name: Callable[[int, str], str], layer: int, dtype: ir.DataType, shape: list[int | str | None]
) -> tuple[ir.Value, ir.Value]:
    """A layer's key and value, as inputs."""
    return ir.val(name(layer, "key"), dtype, shape), ir.val(name(layer, "value"), dtype, shape)


def _gather_positions(builder: Builder, x: ir.Value, positions: ir.Value) -> ir.Value:
    """Rows of x [batch, sequence, hidden] at positions [batch, num_logits]: the head sees only what is asked for."""
    (indices,) = builder.op("Unsqueeze", [positions, builder.constant("last_axis", [-1])], ["logits_indices"])
    return builder.op("GatherND", [x, indices], ["hidden_states"], batch_dims=1)[0]
