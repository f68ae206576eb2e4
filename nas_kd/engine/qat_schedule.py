"""When training rounds the student's values as its 8-bit file will (quantization-aware training, QAT).

A network is trained in full precision first and quantized once it has settled: Jacob et al. 2018 (arXiv:1712.05877,
section 3.1) leave activations unquantized at the start, "to allow the network to enter a more stable state". Here
quantizers are on in the last part of every cycle of the learning rate, so that a network can be judged at each
restart; in the steps just before, ranges are observed. When quantizers are switched on, the average of the weights
starts again.
"""

from collections.abc import Sequence

from torch import nn

from nas_kd.engine.schedule import Schedule
from nas_kd.quantization.fake_quantized import Phase, fake_quantized_modules

OBSERVED = 32  # steps before the switch, fewer if the cycle is shorter


class QATSchedule:
    """Switches the quantizers of networks on and off; networks without any are left alone."""

    def __init__(self, networks: Sequence[nn.Module], schedule: Schedule, steps_per_epoch: int, share: float) -> None:
        """Find the quantizers of all networks.

        Args:
            networks: all that are trained.
            schedule: gives the cycles of the learning rate.
            steps_per_epoch: training steps in an epoch.
            share: of a cycle, 0..1, after which quantizers are on.
        """
        self._parts = [part for network in networks for part in fake_quantized_modules(network)]
        self._schedule, self._steps, self._share = schedule, steps_per_epoch, share

    def before_step(self, epoch: int, step: int) -> bool:
        """Enter the phase of this step; returns whether quantizers were just switched on."""
        if not self._parts:
            return False
        phase = self.phase(epoch, step)
        changed = self._parts[0].phase != phase
        if changed:
            for part in self._parts:
                part.enter(phase)
        return changed and phase == "on"

    def phase(self, epoch: int, step: int) -> Phase:
        """What quantizers do in this step; at least one step of a cycle observes, if the cycle has two."""
        first, end = self._schedule.cycle_of(epoch)
        steps = (end - first) * self._steps
        place = (epoch - first) * self._steps + step
        switched_on = min(max(1, round(self._share * steps)), max(1, steps - 1))
        if place >= switched_on:
            return "on"
        return "observing" if place >= switched_on - OBSERVED else "off"
