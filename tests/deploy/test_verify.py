from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from nas_kd.data.dataset import Split
from nas_kd.errors import InputError, TrialError
from nas_kd.export.onnx_export import export_onnx
from nas_kd.export.verify import OnnxClassifier, accuracy, compare, verify


def test_an_export_is_the_network(content: bytes, net: nn.Module, samples: Tensor) -> None:
    net.train()
    parity = verify(content, net, samples)
    assert parity.max_abs_difference <= 1e-4
    assert parity.agreement >= 0.999
    assert (parity.decisions, parity.not_ties) == (300, 0)
    assert net.training


def changed(content: bytes, factor: float) -> bytes:
    model = onnx.load_from_string(content)
    weight = model.graph.initializer[1]
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(factor), weight.name))
    return model.SerializeToString()


@pytest.mark.parametrize(("factor", "says"), [(1.01, "differ from the network's"), (float("nan"), "not finite")])
def test_another_weight_is_found(content: bytes, net: nn.Module, samples: Tensor, factor: float, says: str) -> None:
    with pytest.raises(TrialError, match=says):
        verify(changed(content, factor), net, samples)


def test_a_network_that_diverged_is_found(net: nn.Module, samples: Tensor) -> None:
    net.head.bias.data[0] = float("inf")
    with pytest.raises(TrialError, match="not finite on 300 of 300"):
        verify(export_onnx(net, (3, 16, 16)), net, samples)


def test_logits_that_depend_on_the_batch_are_found(samples: Tensor) -> None:
    class Centred(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            logits = x.flatten(1)[:, :4] / 255
            return logits - logits.mean(0)

    model = Centred()
    with pytest.raises(TrialError, match="size of the batch"):
        verify(export_onnx(model, (3, 16, 16)), model, samples)


def test_not_a_file_and_external_data_are_refused(net: nn.Module, external, samples: Tensor) -> None:
    for bad in (b"", external.read_bytes()):
        with pytest.raises(TrialError):
            verify(bad, net, samples)


def logits(rows: list[list[float]]) -> np.ndarray:
    return np.array(rows, np.float32)


def test_a_tie_may_fall_either_way() -> None:
    parity = compare(logits([[1, 0], [0.5, 0.50001]]), logits([[1, 0], [0.50001, 0.5]]))
    assert (parity.disagreements, parity.not_ties, parity.agreement) == (1, 0, 0.5)
    assert parity.max_abs_difference == pytest.approx(1e-5, rel=0.01)


def test_many_ties_are_no_agreement() -> None:
    ours, theirs = logits([[0.5, 0.50001]] * 1000), logits([[0.50001, 0.5]] * 1000)
    theirs[2:] = ours[2:]
    with pytest.raises(TrialError, match="2 of 1000"):
        compare(ours, theirs)


def test_tolerance_follows_the_scale_only_beyond_100() -> None:
    compare(logits([[1000.0, 0]]), logits([[1000.0005, 0]]))
    with pytest.raises(TrialError, match=r"allowed: 0.0001"):
        compare(logits([[99.0, 0]]), logits([[99.0005, 0]]))


def test_other_shapes_are_refused() -> None:
    with pytest.raises(TrialError, match="logits are"):
        compare(logits([[1, 0]]), logits([[1, 0, 0]]))


def test_accuracy_counts(identity: Callable[..., bytes]) -> None:
    x = torch.eye(3).repeat(200, 1)  # more than one batch
    y = torch.arange(3).repeat(200)
    y[:60] = (y[:60] + 1) % 3
    assert accuracy(identity(), Split(x, y)) == pytest.approx(0.9)
    assert accuracy(OnnxClassifier(identity()), Split((x * 9).to(torch.uint8), y)) == pytest.approx(0.9)
    with pytest.raises(InputError, match="no samples"):
        accuracy(identity(), Split(x[:0], y[:0]))
