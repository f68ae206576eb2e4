"""Costs of a network that are counted rather than measured: multiply-adds and weights."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nas_kd.export.eval_mode import device_of, evaluating
from nas_kd.export.exporters import without_fast_path
from nas_kd.export.onnx_costs import count_onnx_macs
from nas_kd.export.onnx_module import OnnxModule


def count_parameters(model: nn.Module) -> int:
    """Count trainable weights and the weights of ONNX files inside the network; tied weights count once."""
    of_files = sum(m.parameters_count for m in _files(model))
    return of_files + sum(p.numel() for p in model.parameters())


def count_macs(model: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Count multiply-adds of convolutions and matrix products for one sample, in a real run.

    Args:
        model: any network, ONNX files inside it included.
        input_shape: shape of one sample.
    """
    example = torch.zeros(1, *input_shape, device=device_of(model))
    # attention's fast path is one operator, whose products would not be counted
    with evaluating(model), without_fast_path(), FlopCounterMode(display=False) as counter:
        model(example)
    of_files = sum(count_onnx_macs(m.classifier.file, m.file_shape) for m in _files(model))
    return of_files + int(counter.get_total_flops()) // 2  # a multiply-add is two operations


def _files(model: nn.Module) -> list[OnnxModule]:
    return [module for module in model.modules() if isinstance(module, OnnxModule)]
