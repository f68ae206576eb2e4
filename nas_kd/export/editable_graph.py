"""An ONNX graph under rewriting: its nodes, its constants, and the producers and consumers of its values."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, numpy_helper

from nas_kd.errors import TrialError

Array = NDArray[Any]


class EditableGraph:
    """Nodes and constants of a model as Python containers that may be changed.

    Attributes:
        nodes: all nodes but constants, in topological order.
        constants: initialisers and Constant nodes, by the name of their value.
    """

    def __init__(self, model: ModelProto) -> None:
        """Take the graph of a model apart; the model itself changes in `to_model` only."""
        self._model = model
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, Array] = {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}
        for node in model.graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self.constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
            else:
                self.nodes.append(node)

    def finite_constant(self, name: str) -> NDArray[np.float64]:
        """Return a constant that is to be quantised, after a check.

        Raises:
            TrialError: it is not finite.
        """
        values = self.constants[name].astype(np.float64)
        if not np.isfinite(values).all():
            raise TrialError("a weight or a range of the network is not finite, it cannot be quantised")
        return values

    def nodes_of_type(self, op_type: str) -> list[NodeProto]:
        """List the nodes of one operator type, in order."""
        return [n for n in self.nodes if n.op_type == op_type]

    def producer(self, value: str) -> NodeProto | None:
        """Find the node that computes a value; None for inputs and constants."""
        return next((n for n in self.nodes if value in n.output), None)

    def consumers(self, value: str) -> list[NodeProto]:
        """List the nodes that read a value."""
        return [n for n in self.nodes if value in n.input]

    def replace_input(self, old: str, new: str) -> None:
        """Make all consumers of value `old` read value `new` instead."""
        for node in self.consumers(old):
            node.input[:] = [new if name == old else name for name in node.input]

    def weight_dequantizer(self, value: str) -> NodeProto | None:
        """Find the DequantizeLinear that computes a value from a constant; None if another node does."""
        node = self.producer(value)
        constant = node is not None and node.op_type == "DequantizeLinear" and node.input[0] in self.constants
        return node if constant else None

    def value_dequantizer(self, value: str) -> NodeProto | None:
        """Find the DequantizeLinear that computes a value, of an activation or a weight; None if another node does."""
        node = self.producer(value)
        return node if node is not None and node.op_type == "DequantizeLinear" else None

    def to_model(self) -> ModelProto:
        """Write nodes and constants back and return the model."""
        graph = self._model.graph
        for part in (graph.node, graph.initializer):
            del part[:]
        graph.node.extend(self.nodes)
        graph.initializer.extend(numpy_helper.from_array(v, name) for name, v in self.constants.items())
        return self._model
