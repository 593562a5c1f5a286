"""A small hand for writing onnx_ir graphs: operators by name, weights by their place in the weight file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from bise_export.writer import Layout, Placed

OPSET = 21
# The first with TensorScatter. Only where that is used: other providers' kernels come later.
OPSET_SCATTER = 24
MICROSOFT = "com.microsoft"

Attribute = int | float | str | Sequence[int] | ir.Graph


class Builder:
    """Collects nodes and initializers. Values are named after the module path of the checkpoint they come from."""

    def __init__(self, layout: Layout, weight_file: str) -> None:
        self.layout = layout
        self._weight_file = weight_file
        self._nodes: list[ir.Node] = []
        self._initializers: dict[str, ir.Value] = {}
        self._branched = False

    def op(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        outputs: Sequence[str],
        domain: str = "",
        **attributes: Attribute,
    ) -> list[ir.Value]:
        """Adds a node; an empty output name leaves that output out."""
        values = [ir.val(name) for name in outputs]
        self._nodes.append(
            ir.node(op_type, inputs, attributes or None, domain=domain, outputs=values, name=outputs[0] + "/" + op_type)
        )
        return values

    def weight(self, name: str, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> ir.Value:
        """An initializer with a place of its own in the weight file; asked for again, the same one."""
        return self._initializers.get(name) or self._initializer(self.layout.place(name, dtype, shape))

    def alias(self, name: str, of: str, shape: tuple[int, ...]) -> ir.Value:
        """An initializer that names the bytes of another."""
        return self._initializer(self.layout.alias(name, of, shape))

    def constant(self, name: str, values: Sequence[int]) -> ir.Value:
        """A small int64 vector inside the model file."""
        if name not in self._initializers:
            tensor = ir.tensor(np.array(values, np.int64), name=name)
            self._initializers[name] = ir.val(name, const_value=tensor)
        return self._initializers[name]

    def scalar(self, name: str, value: np.number) -> ir.Value:
        """A number inside the model file."""
        if name not in self._initializers:
            self._initializers[name] = ir.val(name, const_value=ir.tensor(np.array(value), name=name))
        return self._initializers[name]

    def branch(self) -> Builder:
        """For the nodes of a branch: it shares weights and constants, and sees all values made so far."""
        other = Builder(self.layout, self._weight_file)
        other._initializers = self._initializers
        return other

    def graph(self, name: str, outputs: Sequence[ir.Value], kinds: Sequence[ir.DataType]) -> ir.Graph:
        """The branch this was made for."""
        for value, kind in zip(outputs, kinds, strict=True):
            value.type = ir.TensorType(kind)
        return ir.Graph([], outputs, nodes=self._nodes, name=name)

    def either(
        self, condition: ir.Value, then: ir.Graph, otherwise: ir.Graph, outputs: Sequence[str]
    ) -> list[ir.Value]:
        """What one of two branches gives, by a bool []."""
        self._branched = True
        return self.op("If", [condition], outputs, then_branch=then, else_branch=otherwise)

    def model(self, inputs: Sequence[ir.Value], outputs: Sequence[ir.Value], name: str, version: str) -> ir.Model:
        """The finished model."""
        graph = ir.Graph(
            inputs,
            outputs,
            nodes=self._nodes,
            initializers=list(self._initializers.values()),
            opset_imports={"": OPSET_SCATTER if self._branched else OPSET, MICROSOFT: 1},
            name=name,
        )
        return ir.Model(graph, ir_version=10, producer_name="bise", producer_version=version)

    def _initializer(self, placed: Placed) -> ir.Value:
        tensor = ir.ExternalTensor(
            self._weight_file,
            placed.offset,
            placed.size_bytes,
            ir.DataType.from_numpy(placed.dtype),
            shape=ir.Shape(placed.shape),
            name=placed.name,
        )
        self._initializers[placed.name] = ir.val(placed.name, const_value=tensor)
        return self._initializers[placed.name]
