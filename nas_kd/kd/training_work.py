"""The work of a training step, counted: multiply-adds, and what a step takes however small the network is.

Launching operators and the optimiser's step are most of the time of small networks and small batches; they count as if
they were multiply-adds.
"""

from dataclasses import dataclass
from typing import Protocol

from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.results.candidate import Architecture


class CountsWork(Protocol):
    """Counts what one sample costs in training; a `NetworkBuilder` counts multiply-adds alone."""

    def macs(self, architecture: Architecture) -> float:
        """Multiply-adds of one sample's forward pass, or what takes as long."""


# Multiply-adds per forward pass that take as long as the fixed part of a training step: 4 ms on one core, beside 0.1 ns
# a multiply-add (digits, residual networks, batches of 16 and 64).
STEP_WORK = 14e6


@dataclass(frozen=True)
class TrainingWork:
    """Counts one sample's share of the work of a training step.

    Attributes:
        builder: counts multiply-adds.
        batch_size: samples a step.
    """

    builder: NetworkBuilder
    batch_size: int

    def macs(self, architecture: Architecture) -> float:
        """Multiply-adds of one sample, and its share of the step's fixed part."""
        return self.of_macs(self.builder.macs(architecture))

    def of_macs(self, macs: float) -> float:
        """The same for a network whose multiply-adds are known."""
        return macs + STEP_WORK / self.batch_size
