"""Costs of a network that are counted rather than measured: multiply-adds and weights."""

from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from nas_kd.export.eval_mode import device_of, evaluating, without_fast_path
from nas_kd.export.onnx_costs import count_onnx_macs
from nas_kd.export.onnx_module import OnnxModule


class _OperationCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the operations of all convolutions and matrix products that run inside.

    By torch's own formulas; its `FlopCounterMode` also follows modules, which some networks of users' do not bear.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator, and count it."""
        kwargs = kwargs or {}
        if func._overloadpacket not in flop_registry and (parts := self._decomposed(func, args, kwargs)) is not None:
            return parts
        found = func(*args, **kwargs)
        if (count := flop_registry.get(func._overloadpacket)) is not None:
            self.total += int(count(*args, **kwargs, out_val=found))
        return found

    def _decomposed(self, func: Any, args: Any, kwargs: Any) -> Any:
        """The result of an operator that is made of others, with those counted; None: it is made of none."""
        with self:
            found = func.decompose(*args, **kwargs)
        return None if found is NotImplemented else found


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
    with evaluating(model), without_fast_path(), _OperationCounter() as counter:
        model(example)
    of_files = sum(count_onnx_macs(m.classifier.file, m.file_shape) for m in _files(model))
    return int(of_files + counter.total // 2)  # a multiply-add is two operations


def _files(model: nn.Module) -> list[OnnxModule]:
    return [module for module in model.modules() if isinstance(module, OnnxModule)]
