"""Networks that cannot run channels last, as with the usual `view` after convolutions, are students like others."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas_kd.engine.numerics import PLAIN
from nas_kd.export.onnx_classifier import OnnxClassifier
from nas_kd.export.onnx_export import export_onnx
from nas_kd.kd.network_builder import trainable
from nas_kd.models.wrappers import ContiguousLayout


class Viewing(nn.Module):
    """Two convolutions, and `view` before the last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1))
        self.head = nn.Linear(4 * 64, 5)

    def forward(self, x: Tensor) -> Tensor:
        found = self.body(x)
        return self.head(found.view(len(x), -1))


def test_a_network_that_views_is_wrapped_and_others_are_not() -> None:
    network = trainable(Viewing(), (3, 8, 8), (5,))
    assert isinstance(network, ContiguousLayout)
    flattening = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 5))
    assert trainable(flattening, (3, 8, 8), (5,)) is flattening
    tokens = nn.Linear(7, 5)
    assert trainable(tokens, (7,), (5,)) is tokens


def test_it_trains_channels_last_and_is_exported() -> None:
    network, plain = trainable(Viewing(), (3, 8, 8), (5,)), PLAIN.to_layout
    x = plain(torch.randn(6, 3, 8, 8)).to(memory_format=torch.channels_last)
    with pytest.raises(RuntimeError, match="view size"):
        Viewing().to(memory_format=torch.channels_last)(x)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network(x).sum().backward()
    assert all(p.grad is not None for p in network.parameters())
    found = OnnxClassifier(export_onnx(network.eval(), (3, 8, 8))).predict(x)
    assert np.allclose(found, network(x).detach().numpy(), atol=1e-5)
