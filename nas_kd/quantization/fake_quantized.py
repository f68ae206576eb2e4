"""Fake quantisation: a network that rounds values and weights as its 8-bit file will.

Jacob et al. 2018 (arXiv:1712.05877), section 3. It works on any network: operations are intercepted while it runs,
modules are not rewritten. Batch normalisation stays separate in training; as weights have a step per channel, it can be
folded into the layer afterwards without changing what was trained.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nas_kd.errors import TrialError
from nas_kd.quantization.op_interceptor import OpInterceptor
from nas_kd.quantization.quantizer import N_STEPS, RangeQuantizer, quantized_weight, weight_steps
from nas_kd.quantization.weight_range import WHOLE

Phase = Literal["off", "observing", "on"]
PHASES: tuple[Phase, ...] = ("off", "observing", "on")


class FakeQuantized(nn.Module):
    """A network whose activations and weights pass through quantizers.

    Phases: "off", the plain network; "observing", the plain network while ranges follow the activations; "on", values
    and weights are rounded.

    Attributes:
        network: the wrapped network.
        activations: one `RangeQuantizer` per activation, in the order of computation.
        phase_number: () int64 index of the phase in `PHASES`, stored in checkpoints.
        unquantized: names of operations whose weights stay in fp32.
    """

    phase_number: Tensor

    def __init__(self, network: nn.Module, example: Tensor) -> None:
        """Find what is to be quantised, by one run of the network.

        Args:
            network: any network; it is not changed.
            example: (B, ...) an input of the network.
        """
        super().__init__()
        self.network = network
        self.activations = nn.ModuleList()
        self.register_buffer("phase_number", torch.zeros((), dtype=torch.int64))
        self._phase: Phase = "off"
        self._weights: list[str | None] = []  # by number of the call: the name of the parameter
        self._exported: tuple[list[tuple[Tensor, Tensor]], list[Tensor | None]] | None = None
        self.unquantized = self._create_quantizers(example)
        self.register_load_state_dict_post_hook(_restore_phase)  # type: ignore[no-untyped-call]

    def forward(self, x: Tensor) -> Tensor:
        """Run the network on x (B, ...) and round as the phase demands."""
        if self._phase == "off":
            return self.network(x)  # type: ignore[no-any-return]
        with OpInterceptor(x, self._activation, self._weight):
            return self.network(x)  # type: ignore[no-any-return]

    @property
    def phase(self) -> Phase:
        """The current phase: "off", "observing" or "on"."""
        return self._phase

    def enter(self, phase: Phase) -> None:
        """Change the phase; on entering "observing", the observed ranges start afresh."""
        if phase == "observing" and self._phase != phase:
            for quantizer in self.ranges:
                quantizer.reset()
        self._phase = phase
        self.phase_number.fill_(PHASES.index(phase))

    @property
    def ranges(self) -> list[RangeQuantizer]:
        """The quantizers of activations, in the order of computation."""
        return [q for q in self.activations if isinstance(q, RangeQuantizer)]

    @contextmanager
    def exporting(self) -> Iterator[None]:
        """While open, round by PyTorch operators that the exporter writes as QuantizeLinear and DequantizeLinear."""
        tensors = self._tensors_by_name()
        steps = [None if name is None else weight_steps(tensors[name]) for name in self._weights]
        self._exported = [(q.step.detach(), q.zero.clone()) for q in self.ranges], steps
        try:
            yield
        finally:
            self._exported = None

    @torch.no_grad()
    def _create_quantizers(self, example: Tensor) -> tuple[str, ...]:
        """Create a quantizer for every activation; returns names of operations whose weights stay in fp32."""
        names = {id(tensor): name for name, tensor in self._tensors_by_name().items()}

        def activation(_number: int, value: Tensor) -> Tensor:
            self.activations.append(RangeQuantizer(value.device))
            return value

        def weight(_number: int, value: Tensor) -> Tensor:
            self._weights.append(names.get(id(value)))
            return value

        modes = [(module, module.training) for module in self.network.modules()]
        self.network.eval()
        with OpInterceptor(example, activation, weight) as seen:
            self.network(example)
        for module, training in modes:
            module.training = training
        computed = ["a layer with computed weights"] if None in self._weights else []
        return (*seen.unquantized, *computed)

    def _tensors_by_name(self) -> dict[str, Tensor]:
        return dict(chain(self.network.named_parameters(), self.network.named_buffers()))

    def _activation(self, number: int, value: Tensor) -> Tensor:
        if number >= len(self.activations):
            raise _changing_network_error()
        if self._exported is not None:
            step, zero = self._exported[0][number]
            return torch.fake_quantize_per_tensor_affine(value, step, zero, 0, N_STEPS)
        quantizer = self.activations[number]
        if self._phase == "observing":
            quantizer.observe(value)  # type: ignore[operator]
            return value
        rounded: Tensor = quantizer(value)
        return rounded

    def _weight(self, number: int, value: Tensor) -> Tensor:
        if number >= len(self._weights):
            raise _changing_network_error()
        if self._phase == "observing" or self._weights[number] is None:
            return value
        if self._exported is None:
            return quantized_weight(value)
        step = self._exported[1][number]
        if step is None:
            return value
        zeros = torch.zeros_like(step, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(value, step, zeros, 0, -WHOLE - 1, WHOLE)


def _changing_network_error() -> TrialError:
    return TrialError("the network computes different operations from one call to the next, it cannot be quantised")


def _restore_phase(module: nn.Module, _keys: Any) -> None:
    if isinstance(module, FakeQuantized):
        module._phase = PHASES[int(module.phase_number)]


def fake_quantized_modules(model: nn.Module) -> list[FakeQuantized]:
    """List the `FakeQuantized` modules of a network, itself included."""
    return [module for module in model.modules() if isinstance(module, FakeQuantized)]
