from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from nas_kd.export.minify import strip_unneeded
from nas_kd.export.onnx_export import set_metadata
from nas_kd.export.onnx_sizes import sizes_of


def verbose(content: bytes) -> bytes:
    """The same network with names, remarks and a weight that no node uses."""
    model = onnx.load_from_string(content)
    model.producer_name = "producer" * 20
    for n, node in enumerate(model.graph.node):
        node.name, node.doc_string = f"a_long_name_of_node_{n}" * 3, "remark" * 10
    model.graph.initializer.append(numpy_helper.from_array(np.ones(500, np.float32), "unused"))
    return model.SerializeToString()


def test_sizes(content: bytes) -> None:
    weights = sizes_of(content).weights
    floats = 3 * 8 * 9 + 8 + 8 * 9 + 8 + 36 + 3 + 1  # folded batch norm, the head, the mean, and the scale's 64
    assert floats * 4 <= weights < floats * 4 + 100  # and axes of the mean
    large = verbose(set_metadata(content, {"nas_kd.note": "x" * 400}))
    sizes = sizes_of(large)
    assert (sizes.file, sizes.weights) == (len(large), weights + 2000)
    assert sizes.file > sizes.stripped + 2400
    assert sizes.stripped == pytest.approx(len(content), abs=8)


def test_a_stripped_file_says_the_same(content: bytes, net: nn.Module) -> None:
    model = onnx.load_from_string(verbose(content))
    strip_unneeded(model)
    x = np.random.default_rng(0).normal(size=(3, 3, 16, 16)).astype(np.float32)
    ours, theirs = (
        onnxruntime.InferenceSession(c, providers=["CPUExecutionProvider"]).run(None, {"input": x})[0]
        for c in (model.SerializeToString(), content)
    )
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (TensorProto.FLOAT, 28),
        (TensorProto.INT8, 7),
        (TensorProto.FLOAT16, 14),
        (TensorProto.BFLOAT16, 14),
        (TensorProto.INT64, 56),
        (TensorProto.INT4, 4),
        (TensorProto.UINT4, 4),
        (TensorProto.BOOL, 7),
    ],
)
def test_bytes_of_weights_by_type(identity: Callable[..., bytes], kind: int, expected: int) -> None:
    model = onnx.load_from_string(identity())
    model.graph.initializer.append(TensorProto(name="w", data_type=kind, dims=[7], raw_data=b"\0" * expected))
    assert sizes_of(model.SerializeToString()).weights == expected


def test_texts_count_by_their_length(identity: Callable[..., bytes]) -> None:
    model = onnx.load_from_string(identity())
    model.graph.initializer.append(helper.make_tensor("w", TensorProto.STRING, [2], [b"abc", b"de"]))
    assert sizes_of(model.SerializeToString()).weights == 5
