import os
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from nas_kd.export.onnx_export import export_onnx

os.environ.setdefault("OMP_NUM_THREADS", "1")


class Net(nn.Module):
    """Normalisation, two convolutions with batch norm (one depthwise), a residual, a classifier."""

    def __init__(self, width: int = 8, n_classes: int = 4) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((1, 3, 1, 1), 120.0))
        self.conv, self.norm = nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width)
        self.deep, self.deep_norm = nn.Conv2d(width, width, 3, 1, 1, groups=width, bias=False), nn.BatchNorm2d(width)
        self.head = nn.Linear(width, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.conv((x - self.mean) / 64)))
        x = torch.relu(x + self.deep_norm(self.deep(x)))
        return self.head(x.mean((2, 3)))


def trained_like(model: nn.Module) -> nn.Module:
    """Weights and batch-norm statistics as no initialisation has them."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and name != "mean":
            tensor.copy_(
                torch.rand(tensor.shape, generator=generator) + 0.1
                if "var" in name
                else torch.randn(tensor.shape, generator=generator) * 0.5
            )
    return model


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return trained_like(Net())


@pytest.fixture
def make_net() -> Callable[..., nn.Module]:
    return Net


@pytest.fixture
def randomise() -> Callable[[nn.Module], nn.Module]:
    return trained_like


@pytest.fixture
def content(net: nn.Module) -> bytes:
    return export_onnx(net, (3, 16, 16))


@pytest.fixture
def samples() -> Tensor:
    return torch.randint(0, 256, (300, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def identity() -> Callable[..., bytes]:
    """A classifier whose logits are its input, in all the shapes in which a user's file may be wrong."""

    def make(
        *,
        shape: tuple[int | str, ...] = ("batch", 3),
        kind: int = TensorProto.FLOAT,
        op: str = "Identity",
        domain: str = "",
        inputs: int = 1,
        outputs: tuple[str, ...] = ("logits",),
    ) -> bytes:
        sources = [helper.make_tensor_value_info(f"x{i}", kind, shape) for i in range(inputs)]
        targets = [helper.make_tensor_value_info(name, kind, shape) for name in outputs]
        nodes = [helper.make_node(op, ["x0"], [name], domain=domain) for name in outputs]
        graph = helper.make_graph(nodes, "g", sources, targets)
        opsets = [helper.make_opsetid("", 17)] + ([helper.make_opsetid(domain, 1)] if domain else [])
        return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()

    return make


@pytest.fixture
def external(tmp_path: Path, content: bytes) -> Path:
    """The net with its weights beside it."""
    path = tmp_path / "external.onnx"
    model = onnx.load_from_string(content)
    onnx.save_model(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep this machine's baselines in a folder of the tests' own."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAS_KD_CACHE", str(folder))
        yield folder
