"""An ONNX graph that is being rewritten: its nodes, its constants, and who makes and reads which value."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, numpy_helper

from nas_kd.errors import TrialError

Array = NDArray[Any]


class EditableGraph:
    """A model's nodes and constants, for changing both."""

    def __init__(self, model: ModelProto) -> None:
        self._model = model
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, Array] = {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}
        for node in model.graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self.constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
            else:
                self.nodes.append(node)

    def finite(self, name: str) -> NDArray[np.float64]:
        """A constant, to be turned into integers.

        Raises:
            TrialError: it is not finite.
        """
        values = self.constants[name].astype(np.float64)
        if not np.isfinite(values).all():
            raise TrialError("a weight or a range of the network is not finite, it cannot be quantised")
        return values

    def of(self, kind: str) -> list[NodeProto]:
        """All nodes of a kind."""
        return [n for n in self.nodes if n.op_type == kind]

    def maker(self, value: str) -> NodeProto | None:
        """The node that a value comes from."""
        return next((n for n in self.nodes if value in n.output), None)

    def readers(self, value: str) -> list[NodeProto]:
        """The nodes that read a value."""
        return [n for n in self.nodes if value in n.input]

    def replace(self, old: str, new: str) -> None:
        """Let whoever reads `old` read `new`."""
        for node in self.readers(old):
            node.input[:] = [new if name == old else name for name in node.input]

    def integers(self, value: str) -> NodeProto | None:
        """The DequantizeLinear of constants that a value comes from."""
        node = self.maker(value)
        constant = node is not None and node.op_type == "DequantizeLinear" and node.input[0] in self.constants
        return node if constant else None

    def grid(self, value: str) -> NodeProto | None:
        """The DequantizeLinear of activations that a value comes from."""
        node = self.maker(value)
        return node if node is not None and node.op_type == "DequantizeLinear" else None

    def model(self) -> ModelProto:
        """The model as it is now."""
        graph = self._model.graph
        for part in (graph.node, graph.initializer):
            del part[:]
        graph.node.extend(self.nodes)
        graph.initializer.extend(numpy_helper.from_array(v, name) for name, v in self.constants.items())
        return self._model
