"""Another exporter's decoder under bise's contract: nodes before it compute its inputs, nodes behind it keep the cache.

What is between stays as it is. The attention mask and positions follow from each row's length. A cache that grows in
place takes bise's buffers as they are. One that is appended to gets a copy of what the buffer holds, and its new
entries are put to their rows' ends. In a step of several rows, shorter ones are padded at their beginning, as in
Hugging Face's batches: then windows and biases that go by distance are right too.
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
    graph = model.graph
    inputs = {str(value.name): value for value in graph.inputs}
    outputs = {str(value.name): value for value in graph.outputs}
    graph.inputs.clear()
    graph.outputs.clear()
    rewriting = Rewriting(graph, _PREFIX)
    rows = _Rows(rewriting)
    rows.give({name: inputs[name] for name in decoder.given}, decoder.growth)
    positions = ir.val(io.LOGITS_POSITIONS, ir.DataType.INT64, ["batch", "num_logits"])
    logits = _logits(rewriting, outputs[io.LOGITS], positions)
    logits.shape = ir.Shape(["batch", "num_logits", vocab_size])
    graph.inputs.extend([rows.input_ids, rows.seqlens_k, rows.total_sequence_length, positions])
    graph.outputs.append(logits)
    caches = [(inputs[past], outputs[present]) for past, present in decoder.caches()]
    if decoder.growth is Growth.APPENDED:
        buffers = _Buffers(rewriting, rows, decoder.num_kv_heads)
        caches = [buffers.around(past, present) for past, present in caches]
    for past, present in caches:
        past.shape = present.shape = ir.Shape(["batch", decoder.num_kv_heads, "capacity", head_dim])
        present.type = past.type
        graph.inputs.append(past)
        graph.outputs.append(present)
    graph.sort()
    return RemoveUnusedNodesPass()(model).model


class _Rows:
    """What is told of the rows of a step, and what follows from it.

    Attributes:
        past: tokens of each row that are in the cache, [batch, 1].
        widest_past: the most of them, [1].
        total: the longest row's tokens, new ones included, [1].
        positions: of the new tokens, [batch, sequence].
    """

    def __init__(self, rewriting: Rewriting) -> None:
        op = rewriting.op
        self._rewriting = rewriting
        self.input_ids = ir.val(io.INPUT_IDS, ir.DataType.INT64, ["batch", "sequence"])
        self.seqlens_k = ir.val(io.SEQLENS_K, ir.DataType.INT32, ["batch"])
        self.total_sequence_length = ir.val(io.TOTAL_SEQUENCE_LENGTH, ir.DataType.INT32, [])
        zero, one, int64 = rewriting.constant("zero", [0]), rewriting.constant("one", [1]), int(ir.DataType.INT64)
        last = op("Unsqueeze", [op("Cast", [self.seqlens_k], "last", to=int64), one], "last_column")
        self.lengths = op("Add", [last, one], "lengths")  # [batch, 1]
        self.sequence = rewriting.size(self.input_ids, 1, "sequence")  # [1]
        self.total = op(
            "Unsqueeze", [op("Cast", [self.total_sequence_length], "total_scalar", to=int64), zero], "total"
        )
        self.past = op("Sub", [self.lengths, self.sequence], "past")
        self.widest_past = op("Sub", [self.total, self.sequence], "widest_past")
        self.positions = op("Add", [self.past, rewriting.count(self.sequence, "new")], "positions")

    def give(self, given: dict[str, ir.Value], growth: Growth) -> None:
        """Computes what the graph is given of rows, the caches apart."""
        op = self._rewriting.op
        columns = self._rewriting.count(self.total, "columns")
        if growth is Growth.APPENDED:
            padding = op("Sub", [self.total, self.lengths], "padding")  # [batch, 1]
            known = op("GreaterOrEqual", [columns, padding], "is_known")  # [batch, total]
        else:
            known = op("Less", [columns, self.lengths], "is_known")
        values = {io.INPUT_IDS: self.input_ids, io.ATTENTION_MASK: known, io.POSITION_IDS: self.positions}
        for name, wanted in given.items():
            wanted.name = f"{_PREFIX}given_{name}"
            op("Cast", [values[name]], wanted, to=int(wanted.dtype or ir.DataType.INT64))


class _Buffers:
    """Slots' buffers [batch, heads, capacity, channels] around a cache that is appended to."""

    def __init__(self, rewriting: Rewriting, rows: _Rows, heads: int) -> None:
        op, constant = rewriting.op, rewriting.constant
        self._op, self._rows = op, rows
        self._token_axis = constant("token_axis", [2])
        one, around = constant("one", [1]), constant("around", [1, 3])
        each_head = constant("heads", [heads])

        # Where each row's past is in its buffer, [batch, heads, past, 1]; padding may be any entry.
        padding = op("Sub", [rows.widest_past, rows.past], "past_padding")  # [batch, 1]
        shifted = op("Sub", [rewriting.count(rows.widest_past, "past_columns"), padding], "past_shifted")
        kept = op("Unsqueeze", [op("Max", [shifted, constant("zero", [0])], "past_at"), around], "kept_once")
        self._kept = op("Expand", [kept, op("Concat", [one, each_head, one, one], "kept_shape", axis=0)], "kept")

        # Row, head and position of each new entry, [batch, heads, sequence, 3].
        batch = rewriting.size(rows.input_ids, 0, "batch")
        shape = op("Concat", [batch, each_head, rows.sequence, one], "places_shape", axis=0)
        places = (
            op("Reshape", [rewriting.count(batch, "rows"), constant("by_row", [-1, 1, 1, 1])], "row_of"),
            op("Reshape", [rewriting.count(each_head, "head_numbers"), constant("by_head", [1, -1, 1, 1])], "head_of"),
            op("Unsqueeze", [rows.positions, around], "position_of"),
        )
        parts = [op("Expand", [place, shape], f"places_{at}") for at, place in enumerate(places)]
        self._places = op("Concat", parts, "places", axis=3)

    def around(self, past: ir.Value, present: ir.Value) -> tuple[ir.Value, ir.Value]:
        """A buffer as it comes and goes, which the graph's own past is read from and its present's news go to.

        onnxruntime scatters in place where output and input are one buffer: a step writes its new entries only.
        """
        name, output = str(past.name), str(present.name)
        past.name, present.name = f"{_PREFIX}{name}", f"{_PREFIX}{output}"
        before, after = ir.val(name, past.dtype), ir.val(output, past.dtype)
        self._op("GatherND", [before, self._kept], past, batch_dims=2)
        news = [present, self._rows.widest_past, self._rows.total, self._token_axis]
        self._op("ScatterND", [before, self._places, self._op("Slice", news, f"{output}.new")], after)
        return before, after


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
