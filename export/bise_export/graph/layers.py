"""Embedding, linear maps, norms and the feed-forward block, in the operators onnxruntime has kernels for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from bise_export.contents import EMBEDDING, HEAD, Matrix, Vector
from bise_export.graph import activations
from bise_export.graph.builder import MICROSOFT, Attribute, Builder
from bise_export.quant.formats import Blocks, Floats
from bise_export.quant.recipes import Recipe
from bise_export.spec import Activation

# The CPU kernel quantizes activations to int8 by block and multiplies in integers; other levels are 3x slower there.
_ACCURACY_INT8 = 4
# Operator, its domain and attributes. QuickGelu is x · sigmoid(alpha · x).
_ACTIVATIONS: Mapping[Activation, tuple[str, str, Mapping[str, Attribute]]] = {
    "silu": ("QuickGelu", MICROSOFT, {"alpha": 1.0}),
    "gelu_tanh": ("Gelu", "", {"approximate": "tanh"}),
}


def linear(builder: Builder, recipe: Recipe, x: ir.Value, matrix: Matrix, tied_to: str | None = None) -> ir.Value:
    """`x @ matrix.T`, plus the bias if there is one: [batch, sequence, columns] → [batch, sequence, rows].

    Args:
        tied_to: the name of a matrix whose stored bytes this one shares.
    """
    output = f"{matrix.name}/output"
    weights = _weights(builder, matrix, tied_to)
    bias = None
    if matrix.bias is not None:
        bias = builder.weight(matrix.bias.name, recipe.activations, (matrix.bias.size,))
    product = output if bias is None else f"{output}/unbiased"
    match matrix.format:
        case Floats():
            weight = _cast(builder, recipe, weights[0])
            (found,) = builder.op("FusedMatMul", [x, weight], [product], MICROSOFT, transB=1)
        case Blocks() as blocks if recipe.two_pass:
            both = activations.split(builder, x, matrix.name, matrix.columns, blocks.block_size)
            passes = _product(builder, recipe, both, weights, matrix, blocks, f"{output}/passes")
            found = activations.join(builder, passes, product)
        case Blocks() as blocks:
            # The kernel adds the bias itself: after the zero points, if any, the unused g_idx, then the bias.
            zero_points = [None] * blocks.symmetric
            fused = weights if bias is None else [*weights, *zero_points, None, bias]
            return _product(builder, recipe, x, fused, matrix, blocks, output)
        case unknown:
            raise AssertionError(unknown)
    return found if bias is None else builder.op("Add", [found, bias], [output])[0]


def embedding(builder: Builder, recipe: Recipe, input_ids: ir.Value, pieces: Sequence[Matrix]) -> ir.Value:
    """Rows of the embedding: [batch, sequence] → [batch, sequence, hidden]."""
    first, *others = pieces
    if not others:
        return _looked_up(builder, recipe, input_ids, first)
    (ids,) = builder.op("Unsqueeze", [input_ids, builder.constant("last_axis", [-1])], ["input_ids/column"])
    found = _looked_up(builder, recipe, _within(builder, input_ids, first), first)
    for piece in others:
        rare = _looked_up(builder, recipe, _within(builder, input_ids, piece), piece)
        (is_before,) = builder.op("Less", [ids, _first_row(builder, piece)], [f"{piece.name}/is_before"])
        (found,) = builder.op("Where", [is_before, found, rare], [f"{piece.name}/chosen"])
    return found


def head(
    builder: Builder, recipe: Recipe, x: ir.Value, pieces: Sequence[Matrix], tied_to: Sequence[Matrix]
) -> ir.Value:
    """Logits: [batch, num_logits, hidden] → [batch, num_logits, vocab].

    Args:
        pieces: of a head of its own; none where it shares the bytes of the embedding, `tied_to`.
    """
    if pieces:
        found = [linear(builder, recipe, x, piece) for piece in pieces]
    else:
        own = [replace(each, name=each.name.replace(EMBEDDING, HEAD, 1), kind="head") for each in tied_to]
        found = [linear(builder, recipe, x, piece, of.name) for piece, of in zip(own, tied_to, strict=True)]
    return found[0] if len(found) == 1 else builder.op("Concat", found, [f"{HEAD}/all"], axis=-1)[0]


def _within(builder: Builder, ids: ir.Value, piece: Matrix) -> ir.Value:
    """Where ids are in a piece; of those that are not, any place in it."""
    if piece.first_row:
        (ids,) = builder.op("Sub", [ids, _first_row(builder, piece)], [f"{piece.name}/ids"])
    lowest = builder.scalar("first_row", np.int64(0))
    highest = builder.scalar(f"{piece.name}/last_row", np.int64(piece.rows - 1))
    return builder.op("Clip", [ids, lowest, highest], [f"{piece.name}/rows"])[0]


def _first_row(builder: Builder, piece: Matrix) -> ir.Value:
    return builder.scalar(f"{piece.name}/first_row", np.int64(piece.first_row))


def _looked_up(builder: Builder, recipe: Recipe, input_ids: ir.Value, matrix: Matrix) -> ir.Value:
    output = f"{matrix.name}/output"
    match matrix.format:
        case Floats():
            (weight,) = _weights(builder, matrix)
            return builder.op("Gather", [_cast(builder, recipe, weight), input_ids], [output])[0]
        case Blocks(bits=bits, block_size=block_size):
            quantized, *others = matrix.format.tensors(matrix.rows, matrix.columns)
            data = builder.weight(
                matrix.name + quantized.suffix, quantized.dtype, (matrix.rows, matrix.columns * bits // 8)
            )
            scales, *zero_points = (
                builder.weight(matrix.name + part.suffix, part.dtype, part.shape) for part in others
            )
            return builder.op(
                "GatherBlockQuantized",
                [data, input_ids, _cast(builder, recipe, scales), *zero_points],
                [output],
                MICROSOFT,
                bits=bits,
                block_size=block_size,
                gather_axis=0,
                quantize_axis=1,
            )[0]
        case unknown:
            raise AssertionError(unknown)


def norm(builder: Builder, recipe: Recipe, x: ir.Value, vector: Vector, epsilon: float) -> ir.Value:
    """RMS norm over the last axis; the shape stays."""
    gain = builder.weight(vector.name, recipe.activations, (vector.size,))
    return builder.op("SimplifiedLayerNormalization", [x, gain], [f"{vector.name}/output"], axis=-1, epsilon=epsilon)[0]


def add_norm(
    builder: Builder, recipe: Recipe, x: ir.Value, residual: ir.Value, vector: Vector, epsilon: float
) -> tuple[ir.Value, ir.Value]:
    """`x + residual`, and its RMS norm: (normed, sum), both of x's shape."""
    gain = builder.weight(vector.name, recipe.activations, (vector.size,))
    normed, _, _, total = builder.op(
        "SkipSimplifiedLayerNormalization",
        [x, residual, gain],
        [f"{vector.name}/output", "", "", f"{vector.name}/residual"],
        MICROSOFT,
        epsilon=epsilon,
    )
    return normed, total


def feed_forward(
    builder: Builder, recipe: Recipe, x: ir.Value, gate_up: Matrix, down: Matrix, activation: Activation
) -> ir.Value:
    """The gated MLP, `down(activation(gate(x)) * up(x))`: [batch, sequence, hidden] → the same."""
    both = linear(builder, recipe, x, gate_up)  # [batch, sequence, 2 * ffn]
    prefix = gate_up.name.removesuffix("gate_up_proj")
    gate, up = builder.op("Split", [both], [f"{prefix}gate", f"{prefix}up"], axis=-1, num_outputs=2)
    operator, domain, attributes = _ACTIVATIONS[activation]
    (activated,) = builder.op(operator, [gate], [f"{prefix}{activation}"], domain, **attributes)
    (product,) = builder.op("Mul", [activated, up], [f"{prefix}product"])  # [batch, sequence, ffn]
    return linear(builder, recipe, product, down)


def scaled(builder: Builder, recipe: Recipe, x: ir.Value, factor: float, name: str) -> ir.Value:
    """`x * factor`; the shape stays."""
    return builder.op("Mul", [x, builder.scalar(f"{name}.factor", recipe.activations.type(factor))], [name])[0]


def soft_capped(builder: Builder, recipe: Recipe, x: ir.Value, cap: float, name: str) -> ir.Value:
    """`cap * tanh(x / cap)`; the shape stays."""
    (bounded,) = builder.op("Tanh", [scaled(builder, recipe, x, 1 / cap, f"{name}/uncapped")], [f"{name}/bounded"])
    return scaled(builder, recipe, bounded, cap, name)


def _product(
    builder: Builder,
    recipe: Recipe,
    x: ir.Value,
    weights: Sequence[ir.Value | None],
    matrix: Matrix,
    blocks: Blocks,
    output: str,
) -> ir.Value:
    quantized, scales, *rest = weights
    assert scales is not None, matrix
    return builder.op(
        "MatMulNBits",
        [x, quantized, _cast(builder, recipe, scales), *rest],
        [output],
        MICROSOFT,
        K=matrix.columns,
        N=matrix.rows,
        bits=blocks.bits,
        block_size=blocks.block_size,
        accuracy_level=_ACCURACY_INT8,
    )[0]


def _weights(builder: Builder, matrix: Matrix, tied_to: str | None = None) -> list[ir.Value]:
    stored = matrix.format.tensors(matrix.rows, matrix.columns)
    if tied_to is None:
        return [builder.weight(matrix.name + part.suffix, part.dtype, part.shape) for part in stored]
    return [builder.alias(matrix.name + part.suffix, tied_to + part.suffix, part.shape) for part in stored]


def _cast(builder: Builder, recipe: Recipe, stored: ir.Value) -> ir.Value:
    """`stored` in the graph's element type; onnxruntime folds the cast of a constant away at load."""
    tensor = stored.const_value
    if tensor is None or tensor.dtype == ir.DataType.from_numpy(recipe.activations):
        return stored
    target = ir.DataType.from_numpy(recipe.activations)
    return builder.op("Cast", [stored], [f"{stored.name}/cast"], to=int(target))[0]
