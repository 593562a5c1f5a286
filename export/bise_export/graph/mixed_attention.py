"""Attention where a step is an answer's, a prompt's, or both: a chunk of one slot, and a token for each of some rows.

All matrices multiply what a step holds at once; here each part goes its own way. onnxruntime runs a branch only if it
is taken, and writes in place what is bound to one buffer as input and output, inside branches too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from bise_export.graph import io
from bise_export.graph.builder import Builder
from bise_export.graph.prompt_attention import PromptSteps, prompt_attention
from bise_export.quant.kv import Cache
from bise_export.quant.recipes import Recipe
from bise_export.spec import ModelSpec

# Of a builder's branch, packed queries, keys and values, and names for an output and a present key and value.
Fused = Callable[[Builder, ir.Value, list[str]], list[ir.Value]]
_PARTS = ("output", "key", "value")


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt's chunk, over a slot that is bound apart from the rows'.

    Attributes:
        past: key and value of its slot, each [1, kv_heads, capacity, head_dim].
    """

    steps: PromptSteps
    past: tuple[ir.Value, ir.Value]


def mixed_attention(
    builder: Builder,
    spec: ModelSpec,
    recipe: Recipe,
    cache: Cache,
    layer: int,
    qkv: ir.Value,
    fused: Fused,
    past: tuple[ir.Value, ir.Value],
    prompt: Prompt,
    tables: tuple[ir.Value, ir.Value],
    scales: tuple[ir.Value, ir.Value],
    names: list[str],
) -> list[ir.Value]:
    """Attends in the way of each part of a step.

    Args:
        qkv: [batch, sequence, q_size + 2 * kv_size]; with a chunk, its tokens and then one of each row, batch 1.
        fused: how rows attend.
        past: key and value of the rows, each [rows, kv_heads, capacity, head_dim].
        tables: cos and sin, [context, rotary_size / 2].
        scales: of keys and values, each [1, kv_heads, 1, head_dim].
        names: of the first three results.

    Returns:
        The output [batch, sequence, q_size], and the present key and value, of the rows and of the prompt's slot.
    """
    at, steps = f"model.layers.{layer}.self_attn/", prompt.steps
    kinds = [ir.DataType.from_numpy(dtype) for dtype in (recipe.activations, *[cache.dtype] * 4)]

    answering = builder.branch()
    answer = fused(answering, qkv, [f"{at}answer/{part}" for part in _PARTS])
    answer += _kept(answering, prompt.past, f"{at}answer/prompt")

    prompting = builder.branch()
    first, axis = builder.constant("axis.0", [0]), builder.constant("axis.1", [1])
    (chunk,) = prompting.op("Slice", [qkv, first, steps.count, axis], [f"{at}prompt/qkv"])
    attended, *entered = prompt_attention(prompting, spec, layer, chunk, steps, prompt.past, tables, scales)
    alone, beside = prompting.branch(), prompting.branch()
    without_rows = [*alone.op("Identity", [attended], [f"{at}alone/output"]), *_kept(alone, past, f"{at}alone/rows")]
    with_rows = _rows_behind(beside, spec, f"{at}rows/", qkv, attended, steps, fused)
    chunk_and_rows = prompting.either(
        steps.has_rows,
        beside.graph(f"layers.{layer}.rows", with_rows, kinds[:3]),
        alone.graph(f"layers.{layer}.alone", without_rows, kinds[:3]),
        [f"{at}prompt/both/{part}" for part in _PARTS],
    )

    return builder.either(
        steps.is_prompt,
        prompting.graph(f"layers.{layer}.prompt", [*chunk_and_rows, *entered], kinds),
        answering.graph(f"layers.{layer}.answer", answer, kinds),
        [*names, io.prompt_present(layer, "key"), io.prompt_present(layer, "value")],
    )


def _rows_behind(
    builder: Builder, spec: ModelSpec, at: str, qkv: ir.Value, attended: ir.Value, steps: PromptSteps, fused: Fused
) -> list[ir.Value]:
    """The output of a chunk that has attended and of the rows behind it, and the rows' present key and value."""
    end, axis = builder.constant("end", [np.iinfo(np.int64).max]), builder.constant("axis.1", [1])
    (rest,) = builder.op("Slice", [qkv, steps.count, end, axis], [f"{at}rest"])
    width = spec.q_size + 2 * spec.kv_size
    (rows,) = builder.op("Reshape", [rest, builder.constant(f"shape.-1.1.{width}", [-1, 1, width])], [f"{at}qkv"])
    each, *present = fused(builder, rows, [f"{at}{name}" for name in ("each", "key", "value")])
    flat = builder.constant(f"shape.1.-1.{spec.q_size}", [1, -1, spec.q_size])
    (line,) = builder.op("Reshape", [each, flat], [f"{at}line"])
    return [*builder.op("Concat", [attended, line], [f"{at}output"], axis=1), *present]


def _kept(builder: Builder, past: tuple[ir.Value, ir.Value], at: str) -> list[ir.Value]:
    """A cache that this step leaves alone. Bound to one buffer as input and output, it is not copied."""
    key, value = past
    return [*builder.op("Identity", [key], [f"{at}/key"]), *builder.op("Identity", [value], [f"{at}/value"])]
