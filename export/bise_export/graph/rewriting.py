"""A small hand for changing a finished onnx_ir graph: nodes added in any order, sorted at the end."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from bise_export.graph.builder import Attribute


class Rewriting:
    """Adds nodes and constants to `graph` under names that begin with `prefix`, which nothing in the graph has yet."""

    def __init__(self, graph: ir.Graph, prefix: str) -> None:
        self.graph = graph
        self._prefix = prefix

    def op(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        output: str | ir.Value,
        **attributes: Attribute,
    ) -> ir.Value:
        """Adds a node of the standard operators; a value given as `output` becomes what the node computes."""
        value = ir.val(f"{self._prefix}{output}") if isinstance(output, str) else output
        name = f"{self._prefix}{output if isinstance(output, str) else output.name}/{op_type}"
        self.graph.append(ir.node(op_type, inputs, attributes or None, outputs=[value], name=name))
        return value

    def constant(self, name: str, values: int | Sequence[int]) -> ir.Value:
        """A small int64 scalar or vector."""
        name = f"{self._prefix}{name}"
        if name not in self.graph.initializers:
            tensor = ir.tensor(np.array(values, np.int64), name=name)
            self.graph.register_initializer(ir.val(name, const_value=tensor))
        return self.graph.initializers[name]

    def size(self, of: ir.Value, axis: int, output: str) -> ir.Value:
        """The length of an axis, int64 [1]."""
        return self.op("Shape", [of], output, start=axis, end=axis + 1)

    def count(self, size: ir.Value, output: str) -> ir.Value:
        """0, 1, … below `size`, int64 [1]."""
        end = self.op("Squeeze", [size, self.constant("zero", [0])], f"{output}.size")
        return self.op("Range", [self.constant("start", 0), end, self.constant("step", 1)], output)
