"""Real ONNX classifiers in every form that exporters give them, made of a linear classifier."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

Sides = tuple[int | str, ...]
FLOAT = TensorProto.FLOAT


def linear_classifier(
    weight: NDArray[np.float32],
    bias: NDArray[np.float32],
    *,
    shape: Sides = (1, 8, 8),
    batch: int | str = "batch",
    dtype: int = FLOAT,
    channels_last: bool = False,
    grey: bool = False,
    last: str = "",
    outputs: Sequence[str] = ("y",),
    out_dtype: int = FLOAT,
) -> ModelProto:
    """X (batch, *shape) -> logits x W + b of flattened samples, (C, H, W) in order.

    Args:
        weight: (D, C).
        bias: (C,).
        shape: of one sample; names are open sides.
        batch: a number fixes it.
        dtype: of the input.
        channels_last: whether `shape` is (H, W, C).
        grey: the mean over channels is taken first.
        last: operator behind the logits, such as "Softmax".
        outputs: names; the first is the classifier's, "embedding" and "other" are further ones.
        out_dtype: of the first output.
    """
    nodes = [helper.make_node("Cast", ["x"], ["float"], to=FLOAT)]
    for op, options in _before(channels_last, grey):
        nodes.append(helper.make_node(op, [nodes[-1].output[0]], [f"t{len(nodes)}"], **options))
    nodes.append(helper.make_node("Flatten", [nodes[-1].output[0]], ["flat"]))
    nodes.append(helper.make_node("Gemm", ["flat", "weight", "bias"], ["z"]))
    if last:
        nodes.append(helper.make_node(last, ["z"], ["p"], **({"axis": 1} if "oftmax" in last else {})))
    nodes.append(helper.make_node("Cast", [nodes[-1].output[0]], [outputs[0]], to=out_dtype))
    nodes += [_extra(name) for name in outputs[1:]]
    kinds = [out_dtype, *[FLOAT for _ in outputs[1:]]]
    sides = [weight.shape[1] if name != "embedding" else weight.shape[0] for name in outputs]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("x", dtype, (batch, *shape))],
        [helper.make_tensor_value_info(n, k, (batch, s)) for n, k, s in zip(outputs, kinds, sides, strict=True)],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(bias, "bias")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _before(channels_last: bool, grey: bool) -> list[tuple[str, dict[str, object]]]:
    found: list[tuple[str, dict[str, object]]] = []
    if channels_last:
        found.append(("Transpose", {"perm": [0, 3, 1, 2]}))
    if grey:
        found.append(("ReduceMean", {"axes": [1], "keepdims": 1}))
    return found


def _extra(name: str) -> NodeProto:
    return (
        helper.make_node("Identity", ["flat"], [name])
        if name == "embedding"
        else helper.make_node("Neg", ["z"], [name])
    )
