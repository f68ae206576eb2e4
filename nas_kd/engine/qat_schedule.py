"""When training makes its students round as their 8-bit files will.

A network is trained in full precision first, and quantised once it has settled: Jacob et al. 2018 (arXiv:1712.05877,
section 3.1) leave activations unquantised at the start, "to allow the network to enter a more stable state". Here
quantisers are on for the last part of every cycle of the learning rate, so that a network can be judged at each
restart; a few steps before, ranges are observed. When quantisers are switched on, the average of the weights begins
anew.
"""

from collections.abc import Sequence

from torch import nn

from nas_kd.engine.schedule import Schedule
from nas_kd.quantization.fake_quantized import Phase, fake_quantized_modules

OBSERVED = 32  # steps, if there are so many


class QATSchedule:
    """Switches the quantisers of networks; those without any are left alone."""

    def __init__(self, networks: Sequence[nn.Module], schedule: Schedule, steps_per_epoch: int, share: float) -> None:
        """`share`: of a cycle, from which on quantisers are on."""
        self._parts = [part for network in networks for part in fake_quantized_modules(network)]
        self._schedule, self._steps, self._share = schedule, steps_per_epoch, share

    def before_step(self, epoch: int, step: int) -> bool:
        """Enter the phase of this step; whether quantisers were switched on just now."""
        if not self._parts:
            return False
        phase = self.phase(epoch, step)
        changed = self._parts[0].phase != phase
        if changed:
            for part in self._parts:
                part.enter(phase)
        return changed and phase == "on"

    def phase(self, epoch: int, step: int) -> Phase:
        """What quantisers do in this step; at least one step is observed before they are on, where there are two."""
        first, end = self._schedule.cycle_of(epoch)
        steps = (end - first) * self._steps
        place = (epoch - first) * self._steps + step
        switched_on = min(max(1, round(self._share * steps)), max(1, steps - 1))
        if place >= switched_on:
            return "on"
        return "observing" if place >= switched_on - OBSERVED else "off"
