"""ONNX teachers as exporters write them: each gives the logits of the classifier that it was made of."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto
from torch import Tensor

from nas_kd.config.options import DataOptions, TeacherOptions
from nas_kd.data.dataset import Dataset, Split, as_input
from nas_kd.data.prepare import channel_statistics, load_dataset
from nas_kd.errors import InputError
from nas_kd.export.onnx_classifier import OnnxClassifier
from nas_kd.export.onnx_costs import count_onnx_macs
from nas_kd.export.onnx_file import read_onnx
from nas_kd.export.onnx_module import OnnxModule
from nas_kd.kd.onnx_teacher import from_onnx
from nas_kd.kd.user_teachers import UserTeacher
from nas_kd.serialization import fingerprint, sha256
from tests.onnx_files import linear_classifier

Fitted = tuple[NDArray[np.float32], NDArray[np.float32]]


@pytest.fixture(scope="module")
def data() -> Dataset:
    """The digits: grey, uint8, 8x8."""
    return load_dataset(DataOptions(source="digits"), 0)


@pytest.fixture(scope="module")
def fitted(data: Dataset) -> Fitted:
    """A linear classifier of pixels 0..1: ridge regression of class indicators, spread to look like logits."""
    x = data.train.x.flatten(1).double().numpy() / 255
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    targets = np.eye(data.n_classes)[data.train.y.numpy()] * 8
    solved = np.linalg.solve(x.T @ x + np.eye(x.shape[1]), x.T @ targets)
    return solved[:-1].astype(np.float32), solved[-1].astype(np.float32)


def in_pixels(fitted: Fitted) -> Fitted:
    """The same classifier for pixels 0..255."""
    return fitted[0] / 255, fitted[1]


def in_units(data: Dataset, x: Tensor) -> Dataset:
    """The same data with other values of the same samples; `x`: stands for the training split's."""

    def scaled(split: Split) -> Split:
        return Split((split.x.float() / 255 * x.max()).to(x.dtype), split.y)

    mean, std = channel_statistics(x.numpy())
    parts = {name: scaled(getattr(data, name)) for name in ("train", "val", "test")}
    return replace(data, **parts, mean=mean, std=std, scale=1.0, stored_dtype="")


def teacher(tmp_path: Path, model: onnx.ModelProto, data: Dataset, **options: Any) -> UserTeacher:
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return from_onnx(TeacherOptions(onnx=path, **options), data)


def expected(data: Dataset, fitted: Fitted) -> Tensor:
    """Logits of validation samples."""
    x = data.val.x.flatten(1).float() / data.train.x.max()
    return x @ torch.from_numpy(fitted[0]) + torch.from_numpy(fitted[1])


def logits(made: UserTeacher, data: Dataset) -> Tensor:
    return made.teacher.model(as_input(data.val.x))  # type: ignore[no-any-return]


def agrees(made: UserTeacher, data: Dataset, fitted: Fitted, atol: float = 1e-4) -> bool:
    return torch.allclose(logits(made, data), expected(data, fitted), atol=atol)


@pytest.mark.parametrize(
    "form",
    [
        {"shape": (1, "height", "width")},
        {"shape": ("channels", "height", "width")},
        {"batch": 1},
        {"batch": 8},
        {"shape": (8, 8, 1), "channels_last": True},
        {"shape": ("height", "width", 1), "channels_last": True},
        {"batch": 8, "shape": ("height", "width", 1), "channels_last": True},
        {"dtype": TensorProto.DOUBLE},
        {"outputs": ("y", "embedding")},
        {"last": "LogSoftmax"},
    ],
    ids=str,
)
def test_forms_of_files(form: dict[str, Any], data: Dataset, fitted: Fitted, tmp_path: Path) -> None:
    made = teacher(tmp_path, linear_classifier(*fitted, **form), data, preprocessing="unit")
    wanted = expected(data, fitted)
    if form.get("last"):
        wanted = wanted.log_softmax(1)
    assert torch.allclose(logits(made, data), wanted, atol=1e-4)
    assert made.teacher.macs == 640
    said = " ".join(made.notes)
    assert ("channels last" in said) == form.get("channels_last", False)
    assert (f"exactly {form.get('batch')} sample" in said) == ("batch" in form)
    assert "probabilities" not in said
    file = read_onnx(made.file.content, n_classes=10)  # what is measured has no open side but the batch
    assert None not in file.input_shape
    assert count_onnx_macs(file, tuple(s for s in file.input_shape if s)) == 640


def test_a_file_that_takes_one_sample_whatever_it_says(data: Dataset, fitted: Fitted, tmp_path: Path) -> None:
    model = linear_classifier(*fitted)
    flat = next(node for node in model.graph.node if node.op_type == "Flatten")
    flat.CopyFrom(onnx.helper.make_node("Reshape", [flat.input[0], "sides"], ["flat"]))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, 64]), "sides"))
    made = teacher(tmp_path, model, data, preprocessing="unit")
    assert agrees(made, data, fitted)
    assert made.notes == ("the file takes exactly 1 sample a call, and its latency is that of such a call",)


def test_half_precision_in_and_out(data: Dataset, fitted: Fitted, tmp_path: Path) -> None:
    half = TensorProto.FLOAT16
    made = teacher(tmp_path, linear_classifier(*fitted, dtype=half, out_dtype=half), data, preprocessing="unit")
    assert agrees(made, data, fitted, atol=0.03)


@pytest.mark.parametrize("dtype", [TensorProto.UINT8, TensorProto.INT32, TensorProto.INT64])
@pytest.mark.parametrize("stored", ["uint8", "floats 0..255", "floats 0..1"])
def test_whole_numbers_are_pixels(dtype: int, stored: str, data: Dataset, fitted: Fitted, tmp_path: Path) -> None:
    x = data.train.x.float()
    data = {"uint8": data, "floats 0..255": in_units(data, x), "floats 0..1": in_units(data, x / 255)}[stored]
    made = teacher(tmp_path, linear_classifier(*in_pixels(fitted), dtype=dtype), data)
    assert agrees(made, data, fitted)
    assert "samples are fed as whole numbers" in " ".join(made.notes)
    with pytest.raises(InputError, match=r"preprocessing = .unit. would leave nothing of them"):
        teacher(tmp_path, linear_classifier(*fitted, dtype=dtype), data, preprocessing="unit")


def test_sixteen_bit_pixels_reach_a_file_of_bytes(data: Dataset, fitted: Fitted, tmp_path: Path) -> None:
    words = replace(in_units(data, data.train.x.float() / 255 * 65535), stored_dtype="uint16")
    made = teacher(tmp_path, linear_classifier(*in_pixels(fitted), dtype=TensorProto.UINT8), words)
    assert agrees(made, words, fitted, atol=1e-3)


def test_whole_numbers_are_refused_for_other_values(data: Dataset, fitted: Fitted, tmp_path: Path) -> None:
    other = in_units(data, data.train.x.float() / 255 * 3.5)
    with pytest.raises(InputError, match=r"uint8 input takes pixels, .* float32 from 0 to 3.5: neither"):
        teacher(tmp_path, linear_classifier(*fitted, dtype=TensorProto.UINT8), other)


def test_grey_samples_for_a_file_of_colour_images(data: Dataset, fitted: Fitted, tmp_path: Path) -> None:
    for form in ({"shape": (3, 8, 8)}, {"shape": (8, 8, 3), "channels_last": True}, {"shape": (3, "h", "w")}):
        made = teacher(tmp_path, linear_classifier(*fitted, grey=True, **form), data, preprocessing="unit")  # type: ignore[arg-type]
        assert agrees(made, data, fitted)
        assert "grey samples are repeated to 3 channels" in made.notes


def test_another_resolution(data: Dataset, fitted: Fitted, tmp_path: Path) -> None:
    large = linear_classifier(*fitted, shape=(1, 16, 16))
    large.graph.node.insert(
        1, onnx.helper.make_node("AveragePool", ["float"], ["s"], kernel_shape=[2, 2], strides=[2, 2])
    )
    large.graph.node[2].input[0] = "s"
    with pytest.raises(InputError, match=r"takes samples of shape \(1, 16, 16\), .* set teacher.image_size = 16"):
        teacher(tmp_path, large, data, preprocessing="unit")
    made = teacher(tmp_path, large, data, preprocessing="unit", image_size=16)
    assert "samples are resized to 16x16 pixels (bilinear)" in made.notes
    assert float((logits(made, data).argmax(1) == data.val.y).float().mean()) > 0.85
    again = teacher(tmp_path, large, data, preprocessing="unit", image_size=(16, 16))
    assert made.teacher.key == again.teacher.key
    with pytest.raises(InputError, match=r"set teacher.image_size = \[4, 6\]"):
        teacher(tmp_path, linear_classifier(fitted[0][:24], fitted[1], shape=(1, 4, 6)), data)


def test_outputs_by_name(data: Dataset, fitted: Fitted, tmp_path: Path) -> None:
    model = linear_classifier(*fitted, outputs=("y", "other"))
    with pytest.raises(InputError, match=r"2 outputs \(y \(batch, 10\), other \(batch, 10\)\).*teacher.output = \"y\""):
        teacher(tmp_path, model, data)
    made = teacher(tmp_path, model, data, preprocessing="unit", output="y")
    other = teacher(tmp_path, model, data, preprocessing="unit", output="other")
    assert agrees(made, data, fitted)
    assert torch.allclose(logits(other, data), -expected(data, fitted), atol=1e-4)
    assert made.teacher.key != other.teacher.key
    with pytest.raises(InputError, match=r"no output 'z'; it has y \(batch, 10\), other \(batch, 10\)"):
        teacher(tmp_path, model, data, output="z")
    with pytest.raises(InputError, match=r"has 64 classes, the data has 10"):
        teacher(tmp_path, linear_classifier(*fitted, outputs=("y", "embedding")), data, output="embedding")


@pytest.mark.parametrize("last", ["Softmax", "Sigmoid"])
def test_probabilities_become_logits(last: str, data: Dataset, fitted: Fitted, tmp_path: Path) -> None:
    made = teacher(tmp_path, linear_classifier(*fitted, last=last), data, preprocessing="unit")
    z = expected(data, fitted)
    p = z.softmax(1) if last == "Softmax" else z.sigmoid()
    assert torch.allclose(logits(made, data), p.log(), atol=1e-3)
    assert "output 'y' gives probabilities: their logarithms are used as logits" in made.notes


def test_probabilities_are_recognised_by_their_values(data: Dataset, fitted: Fitted, tmp_path: Path) -> None:
    model = linear_classifier(*fitted, last="Exp")
    model.graph.node[-1].input[0] = "share"
    model.graph.node.insert(4, onnx.helper.make_node("ReduceSum", ["p", "axes"], ["sum"], keepdims=1))
    model.graph.node.insert(5, onnx.helper.make_node("Div", ["p", "sum"], ["share"]))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1]), "axes"))
    made = teacher(tmp_path, model, data, preprocessing="unit")
    assert torch.allclose(logits(made, data), expected(data, fitted).log_softmax(1), atol=1e-3)


def test_probabilities_of_zero_are_clipped(fitted: Fitted) -> None:
    model = linear_classifier(fitted[0] * 1000, fitted[1], last="Softmax")
    module = OnnxModule(model.SerializeToString(), (1, 8, 8), (10,))
    found = module(torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert bool(torch.isfinite(found).all())
    assert float(found.min()) == pytest.approx(np.log(1e-12), rel=1e-4)


def test_what_is_refused_by_name(data: Dataset, fitted: Fitted, tmp_path: Path) -> None:
    model = linear_classifier(*fitted)
    model.graph.input.append(onnx.helper.make_tensor_value_info("mask", TensorProto.FLOAT, ("batch", 8)))
    with pytest.raises(InputError, match=r"exactly one input .* it has 2: x, mask"):
        teacher(tmp_path, model, data)
    with pytest.raises(InputError, match=r"must be one of float32, float16, .* it is bool"):
        teacher(tmp_path, linear_classifier(*fitted, dtype=TensorProto.BOOL), data)
    with pytest.raises(InputError, match="NaN or infinite"):
        teacher(tmp_path, linear_classifier(fitted[0], fitted[1] + np.float32(np.nan)), data)


def test_keys_are_as_before_where_nothing_new_is_asked_for(data: Dataset, fitted: Fitted, tmp_path: Path) -> None:
    model = linear_classifier(*fitted)
    made = teacher(tmp_path, model, data, preprocessing="unit")
    assert made.teacher.key == fingerprint([sha256(model.SerializeToString()), "unit"])
    keys = {teacher(tmp_path, model, data, **options).teacher.key for options in ({}, {"mean": 0.1}, {"std": 0.1})}
    assert len(keys | {made.teacher.key}) == 4


def test_a_file_with_its_weights_beside_it(data: Dataset, fitted: Fitted, tmp_path: Path) -> None:
    model, path = linear_classifier(*fitted), tmp_path / "model.onnx"
    inside = model.SerializeToString()
    onnx.save_model(model, path, save_as_external_data=True, location="model.onnx.data", size_threshold=0)
    made = from_onnx(TeacherOptions(onnx=path, preprocessing="unit"), data)
    assert agrees(made, data, fitted)
    assert len(made.file.content) == pytest.approx(len(inside), rel=0.02)
    assert np.array_equal(
        OnnxClassifier(made.file.content).predict(data.val.x), OnnxClassifier(inside).predict(data.val.x)
    )
