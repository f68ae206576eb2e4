from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
from torch import Tensor, nn

from nas_kd.export.network_costs import count_macs, count_parameters
from nas_kd.export.onnx_costs import count_onnx_macs
from nas_kd.export.onnx_export import export_onnx
from nas_kd.export.onnx_file import read_onnx
from nas_kd.export.onnx_module import OnnxModule

# Net(8) on 3 x 16 x 16: 8x8 outputs of 8 channels from 3x3x3, the same depthwise from 3x3, then 8 -> 4.
NET_MACS = 64 * 8 * 27 + 64 * 8 * 9 + 8 * 4


def test_multiply_adds_in_closed_form(net: nn.Module) -> None:
    assert count_macs(net, (3, 16, 16)) == NET_MACS
    assert count_macs(nn.Conv2d(4, 6, (1, 3), groups=2), (4, 5, 7)) == 6 * 5 * 5 * 2 * 3
    assert count_macs(nn.Linear(5, 7), (5,)) == 35


def test_functional_calls_count_too() -> None:
    class Sliced(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return F.conv2d(x, self.weight[:2])

    assert count_macs(Sliced(3, 8, 1), (3, 4, 4)) == 2 * 3 * 16


def test_an_onnx_file_costs_what_its_network_does(net: nn.Module, content: bytes) -> None:
    assert count_onnx_macs(read_onnx(content), (3, 16, 16)) == NET_MACS
    inside = nn.Sequential(OnnxModule(content, (3, 16, 16), (4,)), nn.Linear(4, 2))
    assert count_macs(inside, (3, 16, 16)) == NET_MACS + 8
    assert count_parameters(inside) == read_onnx(content).parameters + 10


def test_other_layers_of_onnx_files() -> None:
    class Other(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.out = nn.ConvTranspose2d(2, 4, 2, 2, bias=False), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.up(x).mean(1)).mean(1)  # a matrix product of rank 3

    model = Other()
    expected = 2 * 4 * 4 * 4 * 2 * 2 + 8 * 8 * 3
    assert count_macs(model, (2, 4, 4)) == expected
    assert count_onnx_macs(read_onnx(export_onnx(model, (2, 4, 4))), (2, 4, 4)) == expected


@pytest.mark.parametrize("form", [QuantFormat.QDQ, QuantFormat.QOperator])
def test_an_int8_file_has_the_multiply_adds_of_its_network(tmp_path: Path, content: bytes, form: QuantFormat) -> None:
    class Readings(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = [{"input": np.random.default_rng(0).normal(size=(4, 3, 16, 16)).astype(np.float32)}]

        def get_next(self) -> dict[str, Any] | None:
            return self.left.pop() if self.left else None

    fp32, int8 = tmp_path / "fp32.onnx", tmp_path / "int8.onnx"
    fp32.write_bytes(content)
    quantize_static(fp32, int8, Readings(), quant_format=form, per_channel=form is QuantFormat.QDQ)
    assert count_onnx_macs(read_onnx(int8), (3, 16, 16)) == NET_MACS


def test_a_network_without_weights_multiplies_nothing(identity: Callable[..., bytes]) -> None:
    assert count_onnx_macs(read_onnx(identity()), (3,)) == 0


def test_parameters(make_net: Callable[..., nn.Module]) -> None:
    assert count_parameters(make_net(8, 4)) == 3 * 8 * 9 + 16 + 8 * 9 + 16 + 8 * 4 + 4


def test_counting_changes_nothing(net: nn.Module) -> None:
    net.train()
    before = net.norm.running_mean.clone()
    count_macs(net, (3, 16, 16))
    assert net.training
    assert torch.equal(net.norm.running_mean, before)


class Queries(nn.Module):
    """Gives a parameter to a layer, which torch's own counter does not bear."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(1, 4))
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.query) + x.mean(1, keepdim=True)


def test_networks_that_give_parameters_to_their_layers_are_counted() -> None:
    assert count_macs(Queries(), (5,)) == 12
