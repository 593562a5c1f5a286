"""The decoder as onnxruntime-genai calls it: what bise is told of each row is computed from an attention mask."""

from __future__ import annotations

import onnx_ir as ir

from bise_export.graph import io
from bise_export.graph.rewriting import Rewriting

_PREFIX = "genai/"
_INT64 = int(ir.DataType.INT64)


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
    own_prompts = [inputs[name] for name in (io.PROMPT_TOKENS, io.PROMPT_TOTAL) if name in inputs]
    for computed in (seqlens_k, total, positions, *own_prompts):
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
    if own_prompts:
        _share_cache(model.graph)
        lone = rewriting.op("Equal", [rewriting.size(input_ids, 0, "batch"), one], "is_lone")
        several = rewriting.op("Greater", [sequence, one], "is_several")
        begins = rewriting.op("Or", [several, rewriting.op("Equal", [past, zero], "is_first")], "begins_or_several")
        is_prompt = rewriting.op("Cast", [rewriting.op("And", [lone, begins], "is_prompt")], "as_0_or_1", to=_INT64)
        for counted, value in zip((sequence, width), own_prompts, strict=True):
            of_prompt = rewriting.op("Mul", [counted, is_prompt], f"{value.name}/vector")
            rewriting.op("Squeeze", [of_prompt, zero], value)
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


def _share_cache(graph: ir.Graph) -> None:
    """Has a prompt's chunk use the rows' cache: here a step is one or the other, never both."""
    inputs = {value.name: value for value in graph.inputs}
    of_prompt = io.prompt_present("", "").rstrip(".")
    for node in [node for node in graph if str(node.outputs[-1].name).startswith(of_prompt)]:
        prompt, answer = (node.attributes[name].as_graph() for name in ("then_branch", "else_branch"))
        (beside,) = (each for each in prompt if each.op_type == "If")
        alone = beside.attributes["else_branch"].as_graph().outputs[0].producer()
        attended = None if alone is None else alone.inputs[0]
        assert attended is not None
        kept = [each for value in answer.outputs[3:] if (each := value.producer()) is not None]
        prompt.outputs[:3] = [attended, *prompt.outputs[3:]]
        for branch in (prompt, answer):
            del branch.outputs[3:]
        prompt.remove(beside, safe=True)
        answer.remove(kept, safe=True)
        for value in node.outputs[3:]:
            graph.outputs.remove(value)
        node.resize_outputs(3)
    for name, value in inputs.items():
        if str(name).startswith(io.prompt_past("", "").rstrip(".")):
            value.replace_all_uses_with(inputs[str(name).replace("prompt", "past", 1)])
            graph.inputs.remove(value)
