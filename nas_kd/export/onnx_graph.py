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


_NESTED = (AttributeProto.GRAPH, AttributeProto.GRAPHS)
