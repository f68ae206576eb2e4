import copy
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from nas_kd.errors import TrialError
from nas_kd.export.onnx_classifier import OnnxClassifier
from nas_kd.export.onnx_export import OPSET, export_onnx, get_metadata, set_metadata

SHAPE = (3, 16, 16)


def dims(value: onnx.ValueInfoProto) -> list[int | str]:
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


def test_signature_is_the_contract(content: bytes) -> None:
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    assert [v.name for v in model.graph.input] == ["input"]
    assert [v.name for v in model.graph.output] == ["logits"]
    assert dims(model.graph.input[0]) == ["batch", *SHAPE]
    assert dims(model.graph.output[0]) == ["batch", 4]
    assert model.opset_import[0].version == OPSET


def test_nothing_unneeded_is_shipped(content: bytes, net: nn.Module) -> None:
    model = onnx.load_from_string(content)
    assert not model.metadata_props
    assert not model.graph.value_info
    assert not any(n.name or n.doc_string for n in model.graph.node)
    assert not any(n.op_type in {"BatchNormalization", "Identity"} for n in model.graph.node)
    weights = sum(4 * p.numel() for p in net.parameters())
    assert len(content) < weights + 1500


def test_size_is_the_same_before_and_after_training(make_net: Callable[..., nn.Module], randomise: Callable) -> None:
    untrained = make_net(16)  # zero biases and equal batch-norm vectors, which the exporter would merge
    before = len(export_onnx(untrained, SHAPE))
    assert len(export_onnx(randomise(untrained), SHAPE)) == before


def test_equal_weights_give_equal_bytes_in_any_process(net: nn.Module, content: bytes) -> None:
    export_onnx(nn.Sequential(nn.Flatten(), nn.Linear(768, 5)), SHAPE)
    assert export_onnx(copy.deepcopy(net), SHAPE) == content
    assert export_onnx(copy.deepcopy(net).to(memory_format=torch.channels_last), SHAPE) == content


def test_tied_weights_are_stored_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(64, 64), nn.Linear(64, 64)
            self.b.weight = self.a.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.b(torch.relu(self.a(x)))

    assert len(export_onnx(Tied(), (64,))) < 1.5 * 64 * 64 * 4


def test_the_network_and_the_random_state_are_left_alone(net: nn.Module) -> None:
    net.train()
    net.norm.eval()
    before, state = torch.get_rng_state(), copy.deepcopy(net.state_dict())
    export_onnx(net, SHAPE)
    assert net.training
    assert not net.norm.training
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())


def test_any_rank_of_input() -> None:
    mlp = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2)).eval()
    x = torch.randn(7, 5)
    assert np.allclose(OnnxClassifier(export_onnx(mlp, (5,))).predict(x), mlp(x).detach().numpy(), atol=1e-5)


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


class Unexportable(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(x)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (nn.Linear(3, 2), "does not run on input"),
        (Pair(), "must return logits"),
        (nn.Identity(), "must return logits"),
        (nn.Sequential(nn.Flatten(), Unexportable()), "cannot be exported"),
    ],
)
def test_what_cannot_be_exported_fails_its_trial(model: nn.Module, says: str) -> None:
    with pytest.raises(TrialError, match=says) as error:
        export_onnx(model, (1, 8, 8))
    assert "\n" not in str(error.value)


def test_metadata_round_trip(content: bytes, samples: Tensor) -> None:
    said = {"nas_kd.classes": '["ä","b"]', "nas_kd.accuracy": "0.9"}
    labelled = set_metadata(content, said)
    assert get_metadata(labelled) == said
    assert get_metadata(content) == {}
    assert len(labelled) == len(content) + len(set_metadata(b"", said))
    assert np.array_equal(OnnxClassifier(labelled).predict(samples), OnnxClassifier(content).predict(samples))
    with pytest.raises(ValueError, match="start with"):
        set_metadata(content, {"classes": "x"})
    with pytest.raises(ValueError, match=r"has metadata 'nas_kd\.accuracy' already"):
        set_metadata(labelled, {"nas_kd.accuracy": "0.8"})


def test_the_measuring_process_imports_no_torch() -> None:
    code = "import sys, nas_kd.latency.measured_file; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
