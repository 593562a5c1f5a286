"""The decoder as onnxruntime-genai calls it: what bise is told of each row is computed from an attention mask."""

from __future__ import annotations

import onnx_ir as ir

from bise_export.graph import io
from bise_export.graph.rewriting import Rewriting

_PREFIX = "genai/"


def with_attention_mask(model: ir.Model) -> ir.Model:
    """A copy of a decoder of bise's contract with Hugging Face's inputs; weights and everything between stay.

    `attention_mask`, int64 [batch, total], takes the place of lengths and positions: a row's length is its mask's sum,
    the longest row's the mask's width. Where prompts attend in a way of their own, a prompt is what a lone row has of
    several new tokens, or first. Logits are of each row's last token only, [batch, 1, vocab]: it is all that sampling
    needs, and a prompt's others would take tokens x vocabulary. A declared width of 1 tells genai so.
    """
    model = model.clone()
    rewriting = Rewriting(model.graph, _PREFIX)
    inputs = {value.name: value for value in model.graph.inputs}
    input_ids, seqlens_k, total = inputs[io.INPUT_IDS], inputs[io.SEQLENS_K], inputs[io.TOTAL_SEQUENCE_LENGTH]
    positions = inputs[io.LOGITS_POSITIONS]
    mask = ir.val(io.ATTENTION_MASK, ir.DataType.INT64, ["batch", "total"])
    is_prompt = inputs.get(io.IS_PROMPT)
    for computed in (seqlens_k, total, positions, is_prompt):
        if computed is not None:
            model.graph.inputs.remove(computed)
    model.graph.inputs.insert(1, mask)

    zero, one = rewriting.constant("zero", [0]), rewriting.constant("one", [1])
    lengths = rewriting.op("ReduceSum", [mask, one], "lengths", keepdims=0)  # [batch]
    last = rewriting.op("Sub", [lengths, one], "last")
    rewriting.op("Cast", [last], seqlens_k, to=int(ir.DataType.INT32))
    width = rewriting.size(mask, 1, "width")
    rewriting.op("Cast", [rewriting.op("Squeeze", [width, zero], "total")], total, to=int(ir.DataType.INT32))
    sequence = rewriting.size(input_ids, 1, "sequence")
    past = rewriting.op("Sub", [width, sequence], "past")
    if is_prompt is not None:
        lone = rewriting.op("Equal", [rewriting.size(input_ids, 0, "batch"), one], "is_lone")
        several = rewriting.op("Greater", [sequence, one], "is_several")
        begins = rewriting.op("Or", [several, rewriting.op("Equal", [past, zero], "is_first")], "begins_or_several")
        rewriting.op("Squeeze", [rewriting.op("And", [lone, begins], "lone_begins"), zero], is_prompt)
    # In a batch, a row that is shorter than the longest has its last token before the padding.
    last_new = rewriting.op("Max", [rewriting.op("Sub", [last, past], "last_new"), zero], "last_new_or_first")
    rewriting.op("Unsqueeze", [last_new, one], positions)  # [batch, 1]
    positions.shape = ir.Shape(["batch", 1])

    logits = model.graph.outputs[0]
    assert logits.name == io.LOGITS
    assert logits.shape is not None
    logits.shape = ir.Shape(["batch", 1, logits.shape[2]])
    model.graph.sort()
    return model
