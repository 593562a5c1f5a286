"""The head of a graph that somebody else wrote: the product with the vocabulary's matrix, found from the logits."""

from __future__ import annotations

import onnx_ir as ir

# What may stand between product and logits, as all of it treats each position apart.
_POINTWISE = frozenset({"Add", "Cast", "Div", "Identity", "Mul", "Sub", "Tanh"})
_PRODUCTS = frozenset({"FusedMatMul", "MatMul", "MatMulNBits"})
# A matrix may be stored in another form and made ready by a few nodes.
_MAKING_READY = 8


def head_input(logits: ir.Value) -> tuple[ir.Node, ir.Value] | None:
    """The node that multiplies with the vocabulary, and the states [batch, sequence, hidden] it takes first.

    None where the graph is of another form: then logits can only be chosen after all are computed.
    """
    value = logits
    while (node := value.producer()) is not None:
        first = node.inputs[0] if node.inputs else None
        if node.op_type in _PRODUCTS:
            rest = [each for each in node.inputs[1:] if each is not None]
            return (node, first) if first is not None and all(map(_is_constant, rest)) else None
        moving = [each for each in node.inputs if each is not None and not _is_constant(each)]
        if node.op_type not in _POINTWISE or len(moving) != 1:
            return None
        value = moving[0]
    return None


def _is_constant(value: ir.Value, depth: int = _MAKING_READY) -> bool:
    if value.const_value is not None or value.is_initializer():
        return True
    node = value.producer()
    if node is None or depth == 0:
        return False
    return all(each is None or _is_constant(each, depth - 1) for each in node.inputs)
