"""Fixed reference networks: timed in turns with a candidate, they show how fast the machine is at that moment."""

from functools import cache

import numpy as np
from onnx import NodeProto, TensorProto, checker, helper, numpy_helper

from nas_kd.results.latency import ReferenceSize

# (channels, side of the image, convolutions). Small: 62 kB of weights, stays in a core's own cache like most students.
# Large: 1.8 MB, comes from the shared cache, and so is slowed by neighbours as large networks are: beside a training
# neighbour a 2.6 MB network's medians spread by 0.8 % against it, by 8 % against one of 256 x 4 x 1.
# Networks of 340 and 390 kB spread by 1.5 and 0.9 % against it, by 3.6 and 1.5 % against the small one.
_SHAPES: dict[ReferenceSize, tuple[int, int, int]] = {"small": (24, 16, 3), "large": (160, 8, 2)}
_LARGE_FROM_BYTES = 250_000


def reference_size_for(size_bytes: int) -> ReferenceSize:
    """Choose the reference whose memory traffic is like that of a file of this size."""
    return "large" if size_bytes >= _LARGE_FROM_BYTES else "small"


@cache
def reference_net(size: ReferenceSize) -> bytes:
    """Make the reference network: `input` (1, c, s, s) -> `output` (1, c, 1, 1), plain convolutions.

    Returns:
        An ONNX file, always of the same bytes: stored baselines are times of exactly this network.
    """
    channels, side, depth = _SHAPES[size]
    rng = np.random.default_rng(0)
    kernels = rng.normal(0, (2 / (9 * channels)) ** 0.5, (depth, channels, channels, 3, 3)).astype(np.float32)
    weights = [numpy_helper.from_array(kernel, f"w{i}") for i, kernel in enumerate(kernels)]
    nodes: list[NodeProto] = []
    value = "input"
    for i in range(depth):
        nodes.append(helper.make_node("Conv", [value, f"w{i}"], [f"c{i}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"r{i}"]))
        value = f"r{i}"
    nodes.append(helper.make_node("GlobalAveragePool", [value], ["output"]))
    source = helper.make_tensor_value_info("input", TensorProto.FLOAT, (1, channels, side, side))
    target = helper.make_tensor_value_info("output", TensorProto.FLOAT, (1, channels, 1, 1))
    graph = helper.make_graph(nodes, "reference", [source], [target], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    content: bytes = model.SerializeToString(deterministic=True)
    return content
