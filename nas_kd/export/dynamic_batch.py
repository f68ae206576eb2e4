"""Makes the batch size of a traced graph the input's again, where Python code had turned it into a constant.

`len(x)` in a network's forward is a plain number when the network is traced. Two traces with different batch sizes show
where that number went: integer constants that are the one size in the one graph and the other size in the other.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from nas_kd.errors import TrialError

Constant = NDArray[Any]
BATCH = "nas_kd_batch"  # begins the names of values that are added
DIFFERENT = "the network's graph depends on the size of the batch in more than integer constants"


def with_dynamic_batch(one: ModelProto, other: ModelProto, size: int, other_size: int) -> ModelProto:
    """Replace the batch size in a graph's integer constants by that of the input.

    Args:
        one: traced with `size` samples; changed in place and returned.
        other: the same network traced with `other_size` samples.
        size: that differs from `other_size`.
        other_size: see above.

    Raises:
        TrialError: the graphs differ by more than such constants.
    """
    if [n.op_type for n in one.graph.node] != [n.op_type for n in other.graph.node]:
        raise TrialError(DIFFERENT)
    replaced: list[NodeProto] = []
    for name, mine, theirs in _constants(one.graph, other.graph):
        if mine.dtype != theirs.dtype or mine.shape != theirs.shape:
            raise TrialError(DIFFERENT)
        if np.array_equal(mine, theirs):
            continue
        changed = mine != theirs
        is_batch = (mine[changed] == size).all() and (theirs[changed] == other_size).all()
        if mine.dtype != np.int64 or mine.ndim > 1 or not is_batch:
            raise TrialError(DIFFERENT)
        replaced += _from_input(name, mine, changed, one.graph.input[0].name)
    _drop(one.graph, {node.output[0] for node in replaced})
    for node in reversed(replaced):
        one.graph.node.insert(0, node)
    return one


def _constants(one: GraphProto, other: GraphProto) -> Iterator[tuple[str, Constant, Constant]]:
    """Pairs of constants at the same places of two graphs; a weight is the same in both."""
    ours, theirs = ({t.name: t for t in graph.initializer} for graph in (one, other))
    for name in ours.keys() & theirs.keys():
        if ours[name].data_type == TensorProto.INT64:
            yield name, numpy_helper.to_array(ours[name]), numpy_helper.to_array(theirs[name])
    for mine, its in zip(one.node, other.node, strict=True):
        if mine.op_type == "Constant":
            values = [_value(node) for node in (mine, its)]
            yield mine.output[0], values[0], values[1]


def _value(node: NodeProto) -> Constant:
    found = [a.t for a in node.attribute if a.name == "value"]
    return numpy_helper.to_array(found[0]) if found else np.zeros(0)


def _from_input(name: str, constant: Constant, changed: NDArray[np.bool_], source: str) -> list[NodeProto]:
    """Nodes that compute the constant, with the batch size of the input at the places that changed."""
    prefix = f"{BATCH}_{name}"
    first = helper.make_node("Constant", [], [f"{prefix}_0"], value=numpy_helper.from_array(np.array([0], np.int64)))
    shape = helper.make_node("Shape", [source], [f"{prefix}_shape"])
    batch = helper.make_node("Gather", [shape.output[0], first.output[0]], [f"{prefix}_batch"])  # (1,)
    nodes, parts = [first, shape, batch], []
    for place, is_batch in enumerate(np.atleast_1d(changed)):
        if is_batch:
            parts.append(batch.output[0])
            continue
        value = numpy_helper.from_array(np.atleast_1d(constant)[place : place + 1])
        nodes.append(helper.make_node("Constant", [], [f"{prefix}_part{place}"], value=value))
        parts.append(nodes[-1].output[0])
    if constant.ndim == 1:
        return [*nodes, helper.make_node("Concat", parts, [name], axis=0)]
    return [*nodes, helper.make_node("Squeeze", [parts[0], first.output[0]], [name])]


def _drop(graph: GraphProto, names: set[str]) -> None:
    """Take the constants of these names out of a graph."""
    for kept in [i for i in graph.initializer if i.name in names]:
        graph.initializer.remove(kept)
    for node in [n for n in graph.node if n.op_type == "Constant" and n.output[0] in names]:
        graph.node.remove(node)
