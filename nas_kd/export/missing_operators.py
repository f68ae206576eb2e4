"""Rewrites what exporters write and ONNX Runtime has no kernel for, into operators that it has."""

from onnx import ModelProto, NodeProto, TensorProto, helper


def replace_boolean_eyes(model: ModelProto) -> None:
    """Compute boolean identity matrices (torch.eye(n, dtype=torch.bool)) in float32, and convert them.

    Args:
        model: changed in place; sub-graphs are left alone.
    """
    producers = {name: node for node in model.graph.node for name in node.output}
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        nodes.append(node)
        if node.op_type == "EyeLike" and _type_of_eye(node, producers.get(node.input[0])) == TensorProto.BOOL:
            nodes += _in_float(node, producers.get(node.input[0]))
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _type_of_eye(eye: NodeProto, like: NodeProto | None) -> int | None:
    """The number type of an identity matrix: its own, or that of the constant whose shape it has; None: unknown."""
    own = [a.i for a in eye.attribute if a.name == "dtype"]
    shown = [a.t.data_type for a in like.attribute if a.name == "value"] if like is not None else []
    return next(iter((*own, *shown)), None)


def _in_float(eye: NodeProto, like: NodeProto | None) -> list[NodeProto]:
    """Make an identity matrix float32, as the constant whose shape it has; returns what converts it to booleans."""
    if like is not None and like.op_type == "ConstantOfShape":
        del like.attribute[:]  # zeros of float32 are what it makes by itself
    (wanted,) = eye.output
    del eye.attribute[:]
    eye.attribute.append(helper.make_attribute("dtype", TensorProto.FLOAT))
    eye.output[0] = f"{wanted}_float"
    return [helper.make_node("Cast", [eye.output[0]], [wanted], to=TensorProto.BOOL)]
