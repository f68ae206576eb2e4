"""What torch's usual exporter cannot do at once: attention's fast path, batch sizes in Python, and its messages."""

import logging
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nas_kd.data.dataset import Split
from nas_kd.errors import TrialError
from nas_kd.export.onnx_export import export_onnx
from nas_kd.export.verify import accuracy, verify
from tests.kd.odd_modules import SHAPE, BatchSizeInPython, Plain, Transformer, Unexportable, scripted, seeded


class ClassToken(Transformer):
    """Repeats a token for each sample, as vision transformers do."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 16))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), tokens], 1)
        return self.head(self.encoder(tokens)[:, 0])  # type: ignore[no-any-return]


class SizesInPython(Plain):
    """Two dimensions of the same size as the example's batch are no batch sizes."""

    def forward(self, x: Tensor) -> Tensor:
        features = self.conv(x).relu().reshape(len(x), 2, 2, int(x.shape[-1]) * 16)
        return self.head(features.reshape(int(x.shape[0]), -1))  # type: ignore[no-any-return]


class SampleBySample(Plain):
    def forward(self, x: Tensor) -> Any:
        return torch.stack([self.logits(sample[None])[0] for sample in x])


class Decides(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x) if x.sum() > 40 else -self.logits(x)


def samples(n: int = 40) -> Tensor:
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(2))


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize("make", [Transformer, ClassToken, BatchSizeInPython, SizesInPython, scripted])
def test_the_file_computes_what_the_network_does(make: Any) -> None:
    network, x = seeded(make).eval(), samples()
    content = export_onnx(network, SHAPE)
    assert verify(content, network, x).max_abs_difference < 1e-4  # in batches, and one by one
    with torch.no_grad():
        assert accuracy(content, Split(x, network(x).argmax(1))) == 1
    assert export_onnx(network, SHAPE) == content
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.skipif(find_spec("onnxscript") is not None, reason="the other exporter may be able to")
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (
            Unexportable,
            "the network cannot be exported to ONNX: Exporting the operator 'aten::special_bessel_j0' to .*",
        ),
        (SampleBySample, r"the exported file takes batches of 2 only, .* \(as len\(x\) does; x.shape\[0\] would do\)"),
        (Decides, "the exported file computes something else than the network, whose forward decides by values .*"),
    ],
)
def test_reasons(make: Any, reason: str) -> None:
    with pytest.raises(TrialError, match=rf"\A{reason}\Z") as caught:
        export_onnx(seeded(make), SHAPE)
    assert "\n" not in str(caught.value)
    assert torch.backends.mha.get_fastpath_enabled()


def test_what_torch_says_is_in_the_log_alone(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger="nas_kd"):
        export_onnx(seeded(BatchSizeInPython), SHAPE)
        with pytest.raises(TrialError):
            export_onnx(seeded(Unexportable), SHAPE)
    shown = capfd.readouterr()
    assert shown.out + shown.err == ""
    assert "TracerWarning: Using len to get tensor shape" in caplog.text
    assert "Torch IR graph at exception" in caplog.text
    assert {record.name for record in caplog.records} == {"nas_kd"}


class MasksItself(Plain):
    """Leaves the diagonal out, as attention among few samples does: torch.eye of booleans has no kernel."""

    def forward(self, x: Tensor) -> Tensor:
        features = self.conv(x).relu().flatten(2)
        diagonal = torch.eye(features.shape[1], dtype=torch.bool, device=x.device)
        weights = (features @ features.transpose(1, 2)).masked_fill(diagonal, -1e9).softmax(-1)
        return self.head((weights @ features).flatten(1))  # type: ignore[no-any-return]


def test_boolean_identity_matrices_are_exported() -> None:
    net = seeded(MasksItself).eval()
    content = export_onnx(net, SHAPE)
    parity = verify(content, net, torch.rand(7, *SHAPE))
    assert parity.agreement == 1
