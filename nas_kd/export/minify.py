"""Minifies exported ONNX graphs, so that their bytes depend on the network alone."""

from collections.abc import Collection

import onnx
from onnx import GraphProto, ModelProto

from nas_kd.errors import TrialError
from nas_kd.export.error_text import first_line
from nas_kd.export.onnx_graph import graphs, nodes

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def minify(model: ModelProto, tied: Collection[frozenset[str]] = ()) -> None:
    """Drop everything that no runtime needs and give values short names, numbered from the graph's start, in place.

    Args:
        model: an exported model.
        tied: groups of names of weights that are one tensor in the network; each group is stored once.
    """
    _restore_copies(model.graph, tied)
    strip_unneeded(model)


def serialize_checked(model: ModelProto, what: str) -> bytes:
    """Serialise a model for batches of any size and check it; equal models give equal bytes.

    Args:
        model: the model; its batch dimension is made dynamic.
        what: an adjective for messages, such as "exported".

    Raises:
        TrialError: the model is not a valid ONNX model.
    """
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    content: bytes = model.SerializeToString(deterministic=True)
    try:
        onnx.checker.check_model(content, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise TrialError(f"the {what} ONNX file is not valid: {first_line(error)}") from error
    return content


def strip_unneeded(model: ModelProto) -> None:
    """Drop unused weights and metadata and shorten names, in place; merged weights stay merged."""
    _drop_unused(model.graph)
    _rename_values(model.graph)
    _drop_metadata(model)


def _restore_copies(graph: GraphProto, tied: Collection[frozenset[str]]) -> None:
    # The exporter merges weights that happen to be equal, such as the zero biases of an untrained network. An untrained
    # file would then be smaller than a trained one, but a size must not depend on the weights' values.
    weights = {w.name: w for w in graph.initializer}
    for node in [n for n in graph.node if n.op_type == "Identity" and n.input[0] in weights]:
        source, target = node.input[0], node.output[0]
        if any(o.name == target for o in graph.output):
            continue
        graph.node.remove(node)
        if any({source, target} <= group for group in tied):
            _replace_input(graph, target, source)
        else:
            copy = graph.initializer.add()
            copy.CopyFrom(weights[source])
            copy.name = target


def _replace_input(graph: GraphProto, old: str, new: str) -> None:
    for inner in graphs(graph):
        for node in inner.node:
            node.input[:] = [new if name == old else name for name in node.input]


def _drop_unused(graph: GraphProto) -> None:
    used = {name for g in graphs(graph) for n in g.node for name in n.input} | {o.name for o in graph.output}
    for weight in [w for w in graph.initializer if w.name not in used]:
        graph.initializer.remove(weight)


def _rename_values(graph: GraphProto) -> None:
    # Inputs and outputs of the outermost graph keep their names, which are the file's interface.
    names = {v.name: v.name for v in (*graph.input, *graph.output)}
    names[""] = ""  # an optional input left out
    for inner in graphs(graph):
        inner_values = [v.name for v in (*inner.input, *inner.output)]
        of_nodes = [name for n in inner.node for name in (*n.input, *n.output)]
        for name in (*inner_values, *of_nodes, *(w.name for w in inner.initializer)):
            if name not in names:
                names[name] = _short(len(names))
    for inner in graphs(graph):
        for value in (*inner.input, *inner.output, *inner.initializer):
            value.name = names[value.name]
        for node in inner.node:
            node.input[:] = [names[name] for name in node.input]
            node.output[:] = [names[name] for name in node.output]
    ordered = sorted(graph.initializer, key=lambda w: (len(w.name), w.name))
    del graph.initializer[:]
    graph.initializer.extend(ordered)


def _short(number: int) -> str:
    text = ""
    while number or not text:
        number, digit = divmod(number, len(_DIGITS))
        text = _DIGITS[digit] + text
    return text


def _drop_metadata(model: ModelProto) -> None:
    for field in ("producer_name", "producer_version", "domain", "model_version", "doc_string", "metadata_props"):
        model.ClearField(field)
    for graph in graphs(model.graph):
        graph.name = "g"  # a name is required
        for field in ("doc_string", "value_info", "metadata_props"):
            graph.ClearField(field)
        for part in (*graph.initializer, *graph.input, *graph.output):
            part.ClearField("doc_string")
            part.ClearField("metadata_props")
    for node in nodes(model):
        for field in ("name", "doc_string", "metadata_props"):
            node.ClearField(field)
