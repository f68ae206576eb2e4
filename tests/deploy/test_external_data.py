"""Weights beside a model: read from its own folder, by plain name, as many bytes as they need; else refused."""

import os
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from torch import Tensor

from nas_kd.agent.onnx_scan import UnsafeModel, check_model
from nas_kd.errors import InputError
from nas_kd.export.onnx_classifier import OnnxClassifier
from nas_kd.export.onnx_file import read_onnx
from nas_kd.export.onnx_sizes import sizes_of
from nas_kd.latency.device import open_device
from nas_kd.latency.measured_file import measure_file


def changed(path: Path, key: str, value: str, only: int | None = None) -> Path:
    """The same model, whose external tensors (or only one of them) have another entry."""
    model = onnx.load(path, load_external_data=False)
    for number, tensor in enumerate(model.graph.initializer):
        if only in (None, number):
            kept = [(e.key, e.value) for e in tensor.external_data if e.key != key]
            del tensor.external_data[:]
            for name, text in [*kept, (key, value)]:
                tensor.external_data.add(key=name, value=text)
    other = path.with_name("changed.onnx")
    other.write_bytes(model.SerializeToString())
    return other


def refused(path: Path) -> str:
    """The message, of one line."""
    with pytest.raises(InputError) as error:
        read_onnx(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_weights_beside_the_model_are_read(external: Path, content: bytes, samples: Tensor) -> None:
    with pytest.raises(UnsafeModel, match="external data"):  # which an agent still refuses
        check_model(external.read_bytes())
    file = read_onnx(external)
    check_model(file.content)
    assert sizes_of(file.content).weights == sizes_of(content).weights
    assert np.array_equal(OnnxClassifier(external).predict(samples), OnnxClassifier(content).predict(samples))
    with pytest.raises(InputError, match="external files"):  # there is no folder to look in
        read_onnx(external.read_bytes())


def test_such_a_file_is_measured(external: Path) -> None:
    measured = measure_file(external, open_device("cpu-1t"))
    assert measured.sizes.file > 2000
    assert measured.latency.p50 > 0


def test_missing_short_and_foreign_files(external: Path, tmp_path: Path) -> None:
    data = tmp_path / "weights.bin"
    whole = data.read_bytes()
    data.write_bytes(whole[:-1])
    assert re.search("'weights.bin' is too short for .*: it is cut off", refused(external))
    data.unlink()
    assert re.search("keeps weights in 'weights.bin' beside it, which is missing; copy both files", refused(external))
    elsewhere = tmp_path.parent / "elsewhere.bin"
    elsewhere.write_bytes(whole)
    data.symlink_to(elsewhere)
    assert re.search("is a link; copy the file itself", refused(external))
    data.unlink()
    data.mkdir()
    assert re.search("no regular file|cannot be read", refused(external))
    data.rmdir()
    os.mkfifo(data)
    assert re.search("no regular file", refused(external))


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../weights.bin", "..", ".", "", "sub/weights.bin", "..\\weights.bin", "c:weights.bin"]
)
def test_paths_are_refused(name: str, external: Path) -> None:
    assert re.search(
        "outside of its folder .*only files beside it are read", refused(changed(external, "location", name))
    )


@pytest.mark.parametrize(
    ("key", "value"), [("length", "11"), ("length", "x"), ("offset", "-64"), ("offset", "nan"), ("offset", "9999999")]
)
def test_sizes_that_do_not_fit(key: str, value: str, external: Path) -> None:
    assert re.search(
        "does not fit its shape|no valid offset or length|too short", refused(changed(external, key, value, only=0))
    )


def test_shapes_that_do_not_fit(external: Path) -> None:
    for dims, says in (([2**40], "larger than 1 GB"), ([-4, 2], "no valid type or shape")):
        model = onnx.load(external, load_external_data=False)
        tensor = model.graph.initializer[0]
        del tensor.dims[:]
        tensor.dims.extend(dims)
        other = external.with_name("changed.onnx")
        other.write_bytes(model.SerializeToString())
        assert re.search(says, refused(other))


def test_a_path_in_an_attribute_is_refused(tmp_path: Path) -> None:
    tensor = TensorProto(data_type=TensorProto.FLOAT, dims=[3], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="/etc/passwd")
    nodes = [helper.make_node("Constant", [], ["c"], value=tensor), helper.make_node("Add", ["x", "c"], ["logits"])]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ("n", 3)) for n in ("x", "logits"))
    model = helper.make_model(helper.make_graph(nodes, "g", [x], [y]), opset_imports=[helper.make_opsetid("", 17)])
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    assert re.search("outside of its folder", refused(path))
