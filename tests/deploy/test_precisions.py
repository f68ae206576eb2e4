"""What holds for every precision, and what each is special for."""

import copy
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from nas_kd.errors import TrialError
from nas_kd.export.onnx_classifier import OnnxClassifier
from nas_kd.export.onnx_export import export_onnx, get_opset
from nas_kd.latency.device_profile import built_in_precisions
from nas_kd.models.search_space import SpaceOfTeacher
from nas_kd.models.wrappers import Normalized, sum_networks
from nas_kd.plugins import available
from nas_kd.quantization.fake_quantized import FakeQuantized
from nas_kd.quantization.packed_weights import FOUR_BITS, TWO_BITS, Packing, quantize_per_channel
from nas_kd.quantization.precision import QuantizationInputs, load_precision
from nas_kd.quantization.static_quantization import quantize

SHAPE = (3, 16, 16)
PRECISIONS = sorted(available("precision"))


@pytest.fixture
def quantising(samples: Tensor) -> QuantizationInputs:
    return QuantizationInputs(SHAPE, samples[:64])


SPACES = sorted(n for n, space in available("space").items() if not isinstance(space, SpaceOfTeacher))


def shape_for(space: str) -> tuple[int, int, int]:
    """The smallest images that the space is for, from those of `SHAPE` on."""
    side = max(SHAPE[1], available("space")[space].sides[0])
    return SHAPE[0], side, side


def of_space(space: str, rung: int = 2) -> nn.Module:
    torch.manual_seed(0)
    built = available("space")[space]
    body = built.build(built.size_ladder(6)[rung], shape_for(space), 4)
    return Normalized(body, torch.full((3,), 120.0), torch.full((3,), 64.0))


def test_device_profiles_allow_all_that_there_are() -> None:
    assert list(built_in_precisions()) == PRECISIONS
    assert all(plugin.summary for plugin in available("precision").values())


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("space", SPACES)
def test_an_untrained_file_is_as_large_as_a_trained_one_and_has_the_same_nodes(
    space: str, precision: str, samples: Tensor, randomise: Callable[[nn.Module], nn.Module]
) -> None:
    plugin, shape = load_precision(precision), shape_for(space)
    quantising = QuantizationInputs(shape, functional.interpolate(samples[:64].float(), shape[1:]))
    untrained = plugin.make(plugin.prepare(of_space(space), shape), quantising).content
    trained = plugin.make(plugin.prepare(randomise(of_space(space)), shape), quantising).content
    assert len(untrained) == len(trained)
    kinds = [[n.op_type for n in onnx.load_from_string(c).graph.node] for c in (untrained, trained)]
    assert kinds[0] == kinds[1]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_equal_weights_give_equal_bytes(precision: str, net: nn.Module, quantising: QuantizationInputs) -> None:
    plugin = load_precision(precision)
    first = plugin.make(plugin.prepare(copy.deepcopy(net), SHAPE), quantising).content
    other = copy.deepcopy(net).to(memory_format=torch.channels_last)
    assert plugin.make(plugin.prepare(other, SHAPE), quantising).content == first


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("members", [1, 2])
def test_files_keep_the_contract_and_are_verified(
    precision: str,
    members: int,
    quantising: QuantizationInputs,
    samples: Tensor,
    randomise: Callable[[nn.Module], nn.Module],
) -> None:
    plugin = load_precision(precision)
    networks = [plugin.prepare(randomise(of_space("mobilenet", rung)), SHAPE) for rung in range(members)]
    model = sum_networks(networks).eval()
    made = plugin.make(model, quantising)
    parity = plugin.verify(made.content, model, samples)
    assert parity.agreement > (0.3 if precision == "int2-weights" else 0.8)  # of four classes
    assert made.notes == ()
    file = OnnxClassifier(made.content).file
    assert (file.input_name, file.output_name, file.batch, file.input_shape) == ("input", "logits", None, SHAPE)
    assert not any(n.name or n.doc_string for n in onnx.load_from_string(made.content).graph.node)


def test_two_processes_quantise_alike(quantising: QuantizationInputs) -> None:
    code = (
        "import torch; from nas_kd.quantization.precision import QuantizationInputs, load_precision\n"
        "from nas_kd.serialization import sha256; torch.manual_seed(0)\n"
        "m = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 4, 3), "
        "torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 2)).eval()\n"
        "inputs = QuantizationInputs((3, 8, 8), torch.randn(64, 3, 8, 8))\n"
        "print(sha256(load_precision('int8').make(m, inputs).content))"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True
        )
        for seed in ("1", "2")
    ]
    assert runs[0].stdout == runs[1].stdout
    assert len(runs[0].stdout.strip()) == 64


def test_int8_is_smaller_and_computes_in_integers(
    net: nn.Module, quantising: QuantizationInputs, samples: Tensor
) -> None:
    plugin = load_precision("int8")
    large = of_space("resnet", 4)
    made = plugin.make(large, quantising).content
    assert len(made) < 0.4 * len(export_onnx(large, SHAPE))
    kernels = {n.input[1]: n for n in onnx.load_from_string(made).graph.node if n.op_type == "Conv"}
    assert kernels
    parity = plugin.verify(plugin.make(net, quantising).content, net, samples)
    assert 0 < parity.max_abs_difference < 1


@pytest.mark.parametrize("calibration", ["entropy", "percentile"])
def test_other_ways_of_calibrating_change_ranges_alone(
    calibration: str, net: nn.Module, quantising: QuantizationInputs, capfd: pytest.CaptureFixture[str]
) -> None:
    plugin = load_precision("int8")
    plain = plugin.make(net, quantising).content
    other = plugin.make(net, replace(quantising, calibration=calibration)).content
    assert other != plain
    assert len(other) == len(plain)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("precision", ["int8", "int8-qat"])
def test_the_scheme_says_which_integers_activations_are(
    precision: str, net: nn.Module, quantising: QuantizationInputs
) -> None:
    plugin = load_precision(precision)
    kinds, logits = [], []
    for scheme in ("u8s8", "s8s8"):
        content = plugin.make(plugin.prepare(copy.deepcopy(net), SHAPE), replace(quantising, scheme=scheme)).content
        model = onnx.load_from_string(content)
        constants = {w.name: w for w in model.graph.initializer}
        zeros = {constants[n.input[2]].data_type for n in model.graph.node if n.op_type == "QuantizeLinear"}
        kinds.append(zeros)
        logits.append(OnnxClassifier(content).predict(quantising.samples))
    assert kinds == [{TensorProto.UINT8}, {TensorProto.INT8}]
    assert np.abs(logits[0] - logits[1]).max() < 0.05 * np.abs(logits[0]).max()


def test_a_layer_that_cannot_be_quantised_is_kept_and_said(quantising: QuantizationInputs, samples: Tensor) -> None:
    torch.manual_seed(0)
    grouped = nn.ConvTranspose2d(8, 8, 2, 2, groups=4)  # ONNX Runtime's tools take no grouped one per channel
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), grouped, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    )
    plugin = load_precision("int8")
    made = plugin.make(model.eval(), quantising)
    assert len(made.notes) == 1
    assert made.notes[0].startswith("layer 'ConvTranspose 2' is kept in fp32: the file cannot be quantised: ")
    counts = Counter(n.op_type for n in onnx.load_from_string(made.content).graph.node)
    assert counts["QuantizeLinear"] > 2
    assert plugin.verify(made.content, model, samples).agreement > 0.9
    aware = load_precision("int8-qat")
    trained = aware.prepare(model, SHAPE)
    assert aware.make(trained, quantising).notes[0].startswith("weights of 'conv_transpose2d' are kept in fp32")


def test_a_network_that_diverged_is_refused(net: nn.Module, quantising: QuantizationInputs) -> None:
    net.head.weight.data[0] = float("nan")
    for precision in ("int8", "int8-qat", "int4-weights", "int2-weights"):
        plugin = load_precision(precision)
        model = plugin.prepare(copy.deepcopy(net), SHAPE)
        with pytest.raises(TrialError, match=r"finite|cannot be quantised"):
            plugin.verify(plugin.make(model, quantising).content, model, quantising.samples)


def test_nothing_to_quantise_leaves_the_file_as_it_is(quantising: QuantizationInputs) -> None:
    content = export_onnx(nn.Sequential(nn.Sigmoid(), nn.Flatten()), SHAPE)
    logits = OnnxClassifier(quantize(content, quantising.samples, "minmax", "u8s8")[0]).predict(quantising.samples)
    assert np.abs(logits - OnnxClassifier(content).predict(quantising.samples)).max() < 0.01


def test_learnt_ranges_and_folded_weights_are_in_the_file(net: nn.Module, quantising: QuantizationInputs) -> None:
    """Batch normalisation with negative factors too, and integers as the fake-quantised forward has them."""
    net.norm.weight.data[::2] *= -1
    plugin = load_precision("int8-qat")
    model = plugin.prepare(net, SHAPE)
    assert isinstance(model, FakeQuantized)
    plugin.make(model, quantising)  # observes
    for quantiser in model.ranges:
        quantiser.log_step.data += 0.1
    made = plugin.make(model, quantising).content
    constants = {w.name: numpy_helper.to_array(w) for w in onnx.load_from_string(made).graph.initializer}
    steps = {float(value) for value in constants.values() if value.shape == () and value.dtype == np.float32}
    assert all(any(np.isclose(q.step.item(), s, rtol=1e-6) for s in steps) for q in model.ranges)
    assert not any(n.op_type == "BatchNormalization" for n in onnx.load_from_string(made).graph.node)
    parity = plugin.verify(made, model, quantising.samples)
    assert parity.agreement >= 0.995
    assert parity.max_abs_difference < 0.02 * np.abs(OnnxClassifier(made).predict(quantising.samples)).max()


def test_another_file_is_not_the_fake_quantised_network(net: nn.Module, quantising: QuantizationInputs) -> None:
    plugin = load_precision("int8-qat")
    model = plugin.prepare(net, SHAPE)
    made = plugin.make(model, quantising).content
    model.network.head.bias.data[0] += 100
    with pytest.raises(TrialError, match=r"rounding explains|decisions otherwise"):
        plugin.verify(made, model, quantising.samples)


@pytest.mark.parametrize(("precision", "packing"), [("int4-weights", FOUR_BITS), ("int2-weights", TWO_BITS)])
def test_packed_weights_are_what_unpacked_ones_were(
    precision: str, packing: Packing, net: nn.Module, quantising: QuantizationInputs, samples: Tensor
) -> None:
    plugin = load_precision(precision)
    made = plugin.make(net, quantising).content
    packed = [w for w in onnx.load_from_string(made).graph.initializer if w.data_type == packing.kind]
    assert sorted(tuple(w.dims) for w in packed) == sorted(tuple(p.shape) for p in net.parameters() if p.ndim > 1)
    assert all(len(w.raw_data) == -(-int(np.prod(w.dims)) * packing.bits // 8) for w in packed)
    with torch.no_grad():
        for module in (net.conv, net.deep, net.head):
            folded = {net.conv: net.norm, net.deep: net.deep_norm}.get(module)
            factor = torch.ones(len(module.weight))
            if folded is not None:
                factor = folded.weight / (folded.running_var + folded.eps).sqrt()
            factor = factor.view(-1, *(1 for _ in module.weight.shape[1:]))
            whole, scale = quantize_per_channel((module.weight * factor).numpy(), 0, packing)
            module.weight.copy_(torch.from_numpy((whole + np.float32(packing.offset)) * scale) / factor)
    difference = np.abs(OnnxClassifier(made).predict(samples) - net.eval()(samples.float()).detach().numpy()).max()
    assert difference < 1e-3
    assert get_opset(made) == packing.opset


def test_four_bits_by_hand() -> None:
    whole, scale = quantize_per_channel(np.array([[7.0, -3.0, 0.4], [0.0, 0.0, 0.0]], np.float32), 0, FOUR_BITS)
    assert whole.tolist() == [[7, -3, 0], [0, 0, 0]]
    assert scale[0].item() == pytest.approx(1.0)
    many = np.concatenate([np.full(1000, 1.0), [20.0]]).astype(np.float32)[None]  # an outlier is not worth it all
    whole, scale = quantize_per_channel(many, 0, FOUR_BITS)
    assert scale.item() < 20 / 7
    assert whole.min() >= -8
    assert whole.max() <= 7


def test_two_bits_by_hand() -> None:
    whole, scale = quantize_per_channel(np.array([[1.5, -0.5, 0.5, -1.5, 0.4]], np.float32), 0, TWO_BITS)
    assert whole.tolist() == [[1, -1, 0, -2, 0]]
    assert scale.item() == pytest.approx(1.0, abs=0.03)
