import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from torch import Tensor, nn

from nas_kd.errors import InputError
from nas_kd.export.onnx_classifier import OnnxClassifier
from nas_kd.export.onnx_file import read_onnx
from nas_kd.export.onnx_module import OnnxModule

Identity = Callable[..., bytes]


def refused(source: Path | bytes, says: str) -> bool:
    """Whether it is refused in one line that says so."""
    with pytest.raises(InputError) as error:
        OnnxModule(source, (3,), (3,))
    return re.search(says, str(error.value)) is not None and "\n" not in str(error.value)


def test_a_users_teacher_can_be_called_like_a_network(content: bytes, net: nn.Module, samples: Tensor) -> None:
    teacher = OnnxModule(content, (3, 16, 16), (4,))
    x = samples[:9].float()
    assert torch.allclose(teacher(x), net.eval()(x), atol=1e-4)
    assert (
        teacher.parameters_count == sum(p.numel() for p in net.parameters()) - 16 + 4
    )  # two norms folded; mean and scale
    assert not teacher(x.requires_grad_()).requires_grad


def test_files_that_are_not_onnx(tmp_path: Path) -> None:
    text, empty, cut = tmp_path / "a.onnx", tmp_path / "b.onnx", tmp_path / "c.onnx"
    text.write_text("not a network\n" * 50)
    empty.write_bytes(b"")
    cut.write_bytes(b"\x08\x08:\xff\xff\x03")
    for path in (text, empty, cut):
        assert refused(path, "is not an ONNX file")
    assert refused(tmp_path / "missing.onnx", "cannot read .*No such file")
    assert refused(tmp_path, "cannot read .*it is a folder; is it .*a.onnx")


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=400))
def test_random_bytes_are_refused_in_words(data: bytes) -> None:
    assert refused(data, "")


def test_a_truncated_or_damaged_network_is_refused_or_runs(content: bytes) -> None:
    for cut in range(0, len(content), 97):
        with pytest.raises(InputError):
            OnnxModule(content[:cut], (3, 16, 16), (4,))


def test_external_data_in_an_attribute_is_refused() -> None:
    tensor = TensorProto(data_type=TensorProto.FLOAT, dims=[3], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="/etc/passwd")
    nodes = [helper.make_node("Constant", [], ["c"], value=tensor), helper.make_node("Add", ["x", "c"], ["logits"])]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ("n", 3)) for n in ("x", "logits"))
    model = helper.make_model(helper.make_graph(nodes, "g", [x], [y]), opset_imports=[helper.make_opsetid("", 17)])
    assert refused(model.SerializeToString(), "external files")


def test_wrong_signatures_are_refused(identity: Identity) -> None:
    assert refused(identity(inputs=2), "exactly one input .* it has 2: x0, x1")
    assert refused(identity(kind=TensorProto.INT8), "must be one of float32, .*, int64; it is int8")
    assert refused(identity(shape=("n",)), r"must be \(batch, ...\)")
    assert refused(identity(shape=("n", 3, 3)), "must be logits")
    assert refused(
        identity(outputs=("a", "b")),
        r"2 outputs \(a \(batch, 3\), b \(batch, 3\)\).*name it, such as teacher.output = \"a\"",
    )
    assert refused(identity(op="Strange", domain="my.ops"), "custom operators .my.ops::Strange")
    assert refused(identity(op="NoSuchOperator"), "cannot load")


def test_damaged_names_and_types_are_refused_in_words(identity: Identity) -> None:
    content = identity(outputs=("aa", "bb"))
    assert refused(content.replace(b"\x02aa", b"\x02\xee\xee"), "the name of an input or output is no text")
    assert refused(content.replace(b"batch", b"ba\xffch"), "2 outputs")
    assert refused(identity(kind=102), "it is of unknown type 102")


def test_a_file_that_cannot_be_loaded_prints_nothing(identity: Identity, capfd: pytest.CaptureFixture[str]) -> None:
    assert refused(identity(op="NoSuchOperator"), "cannot load")
    assert "".join(capfd.readouterr()) == ""


def test_shapes_that_are_not_the_datas_are_refused(identity: Identity) -> None:
    assert refused(identity(shape=("n", 5)), r"takes samples of shape \(5\), the data's are \(3,\)")
    with pytest.raises(InputError, match="has 3 classes, the data has 10"):
        OnnxModule(identity(), (3,), (10,))


def test_too_large_a_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.onnx"
    with path.open("wb") as file:
        file.truncate(1_000_000_001)  # sparse
    assert refused(path, "larger than 1 GB")


def test_one_of_several_outputs_may_be_the_logits(identity: Identity) -> None:
    assert read_onnx(identity(outputs=("embedding", "logits"))).output_name == "logits"


def test_a_fixed_batch_is_filled_up(identity: Identity) -> None:
    x = torch.arange(21.0).reshape(7, 3)
    assert np.array_equal(OnnxClassifier(identity(shape=(4, 3))).predict(x), x.numpy())
    assert np.array_equal(OnnxClassifier(identity(shape=(1, 3))).predict(x), x.numpy())
