"""Iterates over the parts of ONNX models, nested graphs (If, Loop) included."""

from collections.abc import Iterator

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto


def graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """Yield the graph and all graphs nested in it, outermost first."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs) if attribute.type in _NESTED else ():
                yield from graphs(inner)


def nodes(model: ModelProto) -> Iterator[NodeProto]:
    """Yield every node of the model, those of nested graphs and local functions included."""
    for graph in graphs(model.graph):
        yield from graph.node
    for function in model.functions:
        yield from function.node


def tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Yield every constant tensor of the model: initialisers, and tensors in attributes."""
    for graph in graphs(model.graph):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for node in nodes(model):
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                yield attribute.t
            yield from attribute.tensors


def ends_in(graph: GraphProto, output: str) -> str:
    """The operator that computes an output: behind it, values are only passed on, converted or reshaped.

    Args:
        graph: of the model.
        output: name of one of its outputs.

    Returns:
        Its type, such as "Softmax"; empty if there is none.
    """
    makers = {name: node for node in graph.node for name in node.output}
    node = makers.get(output)
    for _ in range(len(graph.node)):
        if node is None or node.op_type not in _PASSING:
            break
        node = makers.get(node.input[0]) if node.input else None
    return "" if node is None else node.op_type


_PASSING = frozenset({"Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Dropout"})
_NESTED = (AttributeProto.GRAPH, AttributeProto.GRAPHS)
