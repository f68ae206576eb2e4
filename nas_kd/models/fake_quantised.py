"""A network that computes as its 8-bit file will: values and weights rounded to learnt ranges (fake quantisation).

Jacob et al. 2018 (arXiv:1712.05877), section 3. Any network: its operations are watched while it runs, not rewritten.
Batch normalisation stays as it is in training; behind weights with a range of their own per channel it can be folded
into a layer afterwards without changing what was trained.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from nas_kd.errors import TrialError
from nas_kd.models.interception import Interception
from nas_kd.models.quantiser import LARGEST, RangeQuantiser, WeightQuantiser, at_least

Phase = Literal["off", "observing", "on"]
Q = TypeVar("Q", RangeQuantiser, WeightQuantiser)
PHASES: tuple[Phase, ...] = ("off", "observing", "on")


class FakeQuantised(nn.Module):
    """`network` behind quantisers: "off", it is the network; "observing", too, and ranges follow what is seen."""

    phase_number: Tensor

    def __init__(self, network: nn.Module, example: Tensor) -> None:
        """`example`: (B, ...) that the network takes; it is run once, to find what is to be quantised."""
        super().__init__()
        self.network = network
        self.activations = nn.ModuleList()
        self.weights = nn.ModuleList()
        self.register_buffer("phase_number", torch.zeros((), dtype=torch.int64))
        self._phase: Phase = "off"
        self._exported: tuple[list[tuple[Tensor, Tensor]], list[Tensor]] | None = None
        self.left = self._found(example)
        self.register_load_state_dict_post_hook(_follow_loaded)  # type: ignore[no-untyped-call]

    def forward(self, x: Tensor) -> Tensor:
        """What the network returns, as its file would compute it."""
        if self._phase == "off":
            return self.network(x)  # type: ignore[no-any-return]
        with Interception(x, self._activation, self._weight):
            return self.network(x)  # type: ignore[no-any-return]

    @property
    def phase(self) -> Phase:
        """What the quantisers do."""
        return self._phase

    def enter(self, phase: Phase) -> None:
        """Change the phase; ranges are observed anew from the beginning of "observing" on."""
        if phase == "observing" and self._phase != phase:
            for quantiser in self._of(RangeQuantiser):
                quantiser.forget()
        self._phase = phase
        self.phase_number.fill_(PHASES.index(phase))

    @contextmanager
    def exporting(self) -> Iterator[None]:
        """Round by PyTorch's own operators inside, which exporters write as QuantizeLinear and DequantizeLinear."""
        ranges = [(at_least(q.step).detach().clone(), q.zero.clone()) for q in self._of(RangeQuantiser)]
        self._exported = ranges, [at_least(q.step).detach().clone() for q in self._of(WeightQuantiser)]
        try:
            yield
        finally:
            self._exported = None

    @torch.no_grad()
    def _found(self, example: Tensor) -> tuple[str, ...]:
        """Make a quantiser for every place; which operations keep their weights in fp32."""

        def activation(_number: int, value: Tensor) -> Tensor:
            self.activations.append(RangeQuantiser(value.device))
            return value

        def weight(_number: int, value: Tensor) -> Tensor:
            self.weights.append(WeightQuantiser(value))
            return value

        modes = [(module, module.training) for module in self.network.modules()]
        self.network.eval()
        with Interception(example, activation, weight) as seen:
            self.network(example)
        for module, training in modes:
            module.training = training
        return tuple(seen.left)

    def _activation(self, number: int, value: Tensor) -> Tensor:
        quantiser = self._place(self.activations, number)
        if self._exported is not None:
            step, zero = self._exported[0][number]
            return torch.fake_quantize_per_tensor_affine(value, step, zero, 0, 255)
        if self._phase == "observing":
            quantiser.observe(value)
            return value
        rounded: Tensor = quantiser(value)
        return rounded

    def _weight(self, number: int, value: Tensor) -> Tensor:
        quantiser = self._place(self.weights, number)
        if self._exported is not None:
            step = self._exported[1][number]
            zeros = torch.zeros_like(step, dtype=torch.int32)
            return torch.fake_quantize_per_channel_affine(value, step, zeros, 0, -LARGEST - 1, LARGEST)
        if self._phase == "observing":
            quantiser.observe(value)
            return value
        rounded: Tensor = quantiser(value)
        return rounded

    def _of(self, kind: type[Q]) -> list[Q]:
        return [q for q in (*self.activations, *self.weights) if isinstance(q, kind)]

    def _place(self, quantisers: nn.ModuleList, number: int) -> Any:
        if number >= len(quantisers):
            raise TrialError("the network computes other operations from one call to the next, it cannot be quantised")
        return quantisers[number]


def _follow_loaded(module: nn.Module, _keys: Any) -> None:
    if isinstance(module, FakeQuantised):
        module._phase = PHASES[int(module.phase_number)]


def fake_quantised_parts(model: nn.Module) -> list[FakeQuantised]:
    """Those of a network's modules, itself included."""
    return [module for module in model.modules() if isinstance(module, FakeQuantised)]
