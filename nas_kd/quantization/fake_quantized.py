"""A network that computes as its 8-bit file will: values and weights rounded (fake quantisation).

Jacob et al. 2018 (arXiv:1712.05877), section 3. Any network: its operations are watched while it runs, not rewritten.
Batch normalisation stays as it is in training; behind weights with a step of their own per channel it can be folded
into a layer afterwards without changing what was trained.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nas_kd.errors import TrialError
from nas_kd.quantization.op_interceptor import OpInterceptor
from nas_kd.quantization.quantizer import LARGEST, LEVELS, RangeQuantizer, quantized_weight, weight_steps

Phase = Literal["off", "observing", "on"]
PHASES: tuple[Phase, ...] = ("off", "observing", "on")


class FakeQuantized(nn.Module):
    """`network` behind quantisers: "off", it is the network; "observing", too, and ranges follow what is seen."""

    phase_number: Tensor

    def __init__(self, network: nn.Module, example: Tensor) -> None:
        """`example`: (B, ...) that the network takes; it is run once, to find what is to be quantised."""
        super().__init__()
        self.network = network
        self.activations = nn.ModuleList()
        self.register_buffer("phase_number", torch.zeros((), dtype=torch.int64))
        self._phase: Phase = "off"
        self._weights: list[str | None] = []  # by number of the call: the parameter's name
        self._exported: tuple[list[tuple[Tensor, Tensor]], list[Tensor | None]] | None = None
        self.left = self._found(example)
        self.register_load_state_dict_post_hook(_follow_loaded)  # type: ignore[no-untyped-call]

    def forward(self, x: Tensor) -> Tensor:
        """What the network returns, as its file would compute it."""
        if self._phase == "off":
            return self.network(x)  # type: ignore[no-any-return]
        with OpInterceptor(x, self._activation, self._weight):
            return self.network(x)  # type: ignore[no-any-return]

    @property
    def phase(self) -> Phase:
        """What the quantisers do."""
        return self._phase

    def enter(self, phase: Phase) -> None:
        """Change the phase; ranges are observed anew from the beginning of "observing" on."""
        if phase == "observing" and self._phase != phase:
            for quantiser in self.ranges:
                quantiser.forget()
        self._phase = phase
        self.phase_number.fill_(PHASES.index(phase))

    @property
    def ranges(self) -> list[RangeQuantizer]:
        """Of activations, in the order in which they are computed."""
        return [q for q in self.activations if isinstance(q, RangeQuantizer)]

    @contextmanager
    def exporting(self) -> Iterator[None]:
        """Round by PyTorch's own operators inside, which exporters write as QuantizeLinear and DequantizeLinear."""
        tensors = self._named()
        steps = [None if name is None else weight_steps(tensors[name]) for name in self._weights]
        self._exported = [(q.step.detach(), q.zero.clone()) for q in self.ranges], steps
        try:
            yield
        finally:
            self._exported = None

    @torch.no_grad()
    def _found(self, example: Tensor) -> tuple[str, ...]:
        """Make a quantiser for every place; which operations keep their weights in fp32."""
        names = {id(tensor): name for name, tensor in self._named().items()}

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
        return (*seen.left, *computed)

    def _named(self) -> dict[str, Tensor]:
        return dict(chain(self.network.named_parameters(), self.network.named_buffers()))

    def _activation(self, number: int, value: Tensor) -> Tensor:
        if number >= len(self.activations):
            raise _changing()
        if self._exported is not None:
            step, zero = self._exported[0][number]
            return torch.fake_quantize_per_tensor_affine(value, step, zero, 0, LEVELS)
        quantiser = self.activations[number]
        if self._phase == "observing":
            quantiser.observe(value)  # type: ignore[operator]
            return value
        rounded: Tensor = quantiser(value)
        return rounded

    def _weight(self, number: int, value: Tensor) -> Tensor:
        if number >= len(self._weights):
            raise _changing()
        if self._phase == "observing" or self._weights[number] is None:
            return value
        if self._exported is None:
            return quantized_weight(value)
        step = self._exported[1][number]
        if step is None:
            return value
        zeros = torch.zeros_like(step, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(value, step, zeros, 0, -LARGEST - 1, LARGEST)


def _changing() -> TrialError:
    return TrialError("the network computes other operations from one call to the next, it cannot be quantised")


def _follow_loaded(module: nn.Module, _keys: Any) -> None:
    if isinstance(module, FakeQuantized):
        module._phase = PHASES[int(module.phase_number)]


def fake_quantized_modules(model: nn.Module) -> list[FakeQuantized]:
    """Those of a network's modules, itself included."""
    return [module for module in model.modules() if isinstance(module, FakeQuantized)]
