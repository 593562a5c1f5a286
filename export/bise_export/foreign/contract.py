"""Another exporter's decoder under bise's contract: nodes before it compute its inputs, nodes behind it keep the cache.

What is between stays as it is. The attention mask and positions follow from each row's length. A cache that grows in
place takes bise's buffers as they are. One that is appended to gets the part of the buffer that is filled, and its new
entries are put to their rows' ends; rows of a step that are shorter than the longest have a hole in between, which the
mask leaves out. Where they are in the cache does not matter to entries: they were rotated by their own position.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from bise_export.foreign.decoder import Decoder, Growth
from bise_export.foreign.head import head_input
from bise_export.graph import io
from bise_export.graph.rewriting import Rewriting

_PREFIX = "bise/"


def under_contract(decoder: Decoder, head_dim: int, vocab_size: int) -> ir.Model:
    """A copy of the decoder with the inputs and outputs of bise's graphs; weights are shared with it."""
    model = decoder.model.clone()
    inputs = {str(value.name): value for value in model.graph.inputs}
    outputs = {str(value.name): value for value in model.graph.outputs}
    model.graph.inputs.clear()
    model.graph.outputs.clear()
    rewriting = Rewriting(model.graph, _PREFIX)
    rows = _Rows(rewriting)
    rows.give(inputs, decoder.growth)
    positions = ir.val(io.LOGITS_POSITIONS, ir.DataType.INT64, ["batch", "num_logits"])
    logits = _logits(rewriting, outputs[io.LOGITS], positions)
    logits.shape = ir.Shape(["batch", "num_logits", vocab_size])
    model.graph.inputs.extend([rows.input_ids, rows.seqlens_k, rows.total_sequence_length, positions])
    model.graph.outputs.append(logits)
    shape: list[int | str | None] = ["batch", decoder.num_kv_heads, "capacity", head_dim]
    for past, present in decoder.caches():
        before, after = inputs[past], outputs[present]
        if decoder.growth is Growth.APPENDED:
            before, after = rows.appended(before, after, decoder.num_kv_heads)
        before.shape = after.shape = ir.Shape(shape)
        after.type = before.type
        model.graph.inputs.append(before)
        model.graph.outputs.append(after)
    model.graph.sort()
    return RemoveUnusedNodesPass()(model).model


class _Rows:
    """What the graph is told of the rows of a step, computed from their lengths."""

    def __init__(self, rewriting: Rewriting) -> None:
        op, constant = rewriting.op, rewriting.constant
        self._op, self._constant = op, constant
        self.input_ids = ir.val(io.INPUT_IDS, ir.DataType.INT64, ["batch", "sequence"])
        self.seqlens_k = ir.val(io.SEQLENS_K, ir.DataType.INT32, ["batch"])
        self.total_sequence_length = ir.val(io.TOTAL_SEQUENCE_LENGTH, ir.DataType.INT32, [])
        self._zero, self._one = constant("zero", [0]), constant("one", [1])
        int64 = int(ir.DataType.INT64)
        last = op("Unsqueeze", [op("Cast", [self.seqlens_k], "last", to=int64), self._one], "last_column")
        self._lengths = op("Add", [last, self._one], "lengths")  # [batch, 1]
        self._sequence = rewriting.size(self.input_ids, 1, "sequence")  # [1]
        total = op("Cast", [self.total_sequence_length], "total_scalar", to=int64)
        self._total = op("Unsqueeze", [total, self._zero], "total")  # [1]
        self._past = op("Sub", [self._lengths, self._sequence], "past")  # [batch, 1]
        self._widest_past = op("Sub", [self._total, self._sequence], "widest_past")  # [1]
        self._columns = self._range(total, "columns")  # [total]
        new = self._range(op("Squeeze", [self._sequence, self._zero], "sequence_scalar"), "new")
        self._positions = op("Add", [self._past, new], "positions")  # [batch, sequence]
        self._indices: ir.Value | None = None

    def give(self, inputs: dict[str, ir.Value], growth: Growth) -> None:
        """Computes the graph's own inputs but the caches."""
        known = self._op("Less", [self._columns, self._lengths], "is_known")  # [batch, total]
        if growth is Growth.APPENDED:
            filled = self._op("Less", [self._columns, self._past], "is_filled")
            new = self._op("GreaterOrEqual", [self._columns, self._widest_past], "is_new")
            known = self._op("Or", [filled, new], "is_filled_or_new")
        for name, value in (
            (io.INPUT_IDS, self.input_ids),
            (io.ATTENTION_MASK, known),
            (io.POSITION_IDS, self._positions),
        ):
            if (wanted := inputs.get(name)) is not None:
                assert wanted.dtype is not None
                wanted.name = f"{_PREFIX}given_{name}"
                self._op("Cast", [value], wanted, to=int(wanted.dtype))

    def appended(self, past: ir.Value, present: ir.Value, heads: int) -> tuple[ir.Value, ir.Value]:
        """A buffer [batch, heads, capacity, channels] in which the graph's own past and present find themselves.

        onnxruntime scatters in place where output and input are one buffer: a step writes its new entries only.
        """
        name, output = str(past.name), str(present.name)
        buffer = ir.val(name, past.dtype)
        past.name, present.name = f"{_PREFIX}{name}", f"{_PREFIX}{output}"
        axis = self._constant("token_axis", [2])
        self._op("Slice", [buffer, self._zero, self._widest_past, axis], past)
        new = self._op("Slice", [present, self._widest_past, self._total, axis], f"{output}.new")
        result = ir.val(output, past.dtype)
        self._op("ScatterND", [buffer, self._places(heads), new], result)
        return buffer, result

    def _places(self, heads: int) -> ir.Value:
        """Row, head and position of each new entry, [batch, heads, sequence, 3]."""
        if self._indices is None:
            op, constant = self._op, self._constant
            batch = op("Shape", [self.input_ids], "batch", start=0, end=1)
            shape = op("Concat", [batch, constant("heads", [heads]), self._sequence, self._one], "places_shape", axis=0)
            row = self._range(op("Squeeze", [batch, self._zero], "batch_scalar"), "rows")
            head = constant("head_numbers", list(range(heads)))
            each = (
                op("Reshape", [row, constant("by_row", [-1, 1, 1, 1])], "row_of"),
                op("Reshape", [head, constant("by_head", [1, -1, 1, 1])], "head_of"),
                op("Unsqueeze", [self._positions, constant("around", [1, 3])], "position_of"),
            )
            parts = [op("Expand", [part, shape], f"places_{at}") for at, part in enumerate(each)]
            self._indices = op("Concat", parts, "places", axis=3)
        return self._indices

    def _range(self, end: ir.Value, output: str) -> ir.Value:
        return self._op("Range", [self._constant("start", 0), end, self._constant("step", 1)], output)


def _logits(rewriting: Rewriting, logits: ir.Value, positions: ir.Value) -> ir.Value:
    """Logits at `positions`, float32: before the head where it is found, so that others are never computed."""
    column = rewriting.op("Unsqueeze", [positions, rewriting.constant("last_axis", [-1])], "positions_column")
    logits.name = f"{_PREFIX}{io.LOGITS}"
    found = head_input(logits)
    if found is not None:
        node, states = found
        node.replace_input_with(0, rewriting.op("GatherND", [states, column], "asked_states", batch_dims=1))
        asked = logits
    else:
        asked = rewriting.op("GatherND", [logits, column], "asked_logits", batch_dims=1)
    result = ir.val(io.LOGITS, ir.DataType.FLOAT)
    return rewriting.op("Cast", [asked], result, to=int(ir.DataType.FLOAT))
