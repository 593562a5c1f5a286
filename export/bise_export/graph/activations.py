"""Activations to 16 bits on a kernel that multiplies in 8: what rounding leaves over is multiplied too.

MatMulNBits rounds its input to int8 in blocks, with the block's largest magnitude as 127. `split` rounds it in the same
way first, so the kernel's own rounding of that half changes nothing, and gives the kernel the rest as rows of their
own; `join` adds the two products. The weights are read once for both, so decoding, which waits for them, pays little on
large models.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bise_export.graph.builder import Builder

_LARGEST = 127
# Below every scale that occurs, so that a block of zeros does not divide by zero.
_SMALLEST_SCALE = 1e-30


def split(builder: Builder, x: ir.Value, name: str, columns: int, block_size: int) -> ir.Value:
    """Rounded rows, then what rounding left: [batch, sequence, columns] → [2 * batch, sequence, columns]."""
    blocks = -(-columns // block_size)
    prefix = f"{name}/activations."

    def op(op_type: str, inputs: list[ir.Value | None], output: str, **attributes: int) -> ir.Value:
        return builder.op(op_type, inputs, [prefix + output], "", **attributes)[0]

    filled = x
    if missing := blocks * block_size - columns:
        filled = op("Pad", [x, builder.constant(f"pad.{missing}", [0, 0, 0, 0, 0, missing])], "filled")
    in_blocks = op(
        "Reshape", [filled, builder.constant(f"blocks.{blocks}.{block_size}", [0, 0, blocks, block_size])], "blocks"
    )
    magnitudes = op("Abs", [in_blocks], "magnitudes")
    # Reduced with its axis kept and reshaped after: without the axis onnxruntime gets the shape of no rows wrong.
    peaks = op("ReduceMax", [magnitudes, builder.constant("last_axis", [-1])], "peaks", keepdims=1)
    per_block = op("Reshape", [peaks, builder.constant(f"blocks.{blocks}", [0, 0, blocks])], "peak_per_block")
    steps = op("Mul", [per_block, builder.scalar("activations.step", np.float32(1 / _LARGEST))], "steps")
    scales = op("Clip", [steps, builder.scalar("activations.smallest", np.float32(_SMALLEST_SCALE))], "scales")
    integers = op(
        "QuantizeLinear", [x, scales], "integers", axis=-1, block_size=block_size, output_dtype=int(ir.DataType.INT8)
    )
    rounded = op("DequantizeLinear", [integers, scales], "rounded", axis=-1, block_size=block_size)
    rest = op("Sub", [x, rounded], "rest")
    return op("Concat", [rounded, rest], "both", axis=0)


def join(builder: Builder, both: ir.Value, output: str) -> ir.Value:
    """The sum of the two halves: [2 * batch, sequence, rows] → [batch, sequence, rows]."""
    halves = builder.op("Split", [both], [f"{output}/rounded", f"{output}/rest"], axis=0, num_outputs=2)
    return builder.op("Add", halves, [output])[0]
