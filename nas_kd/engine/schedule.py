"""The training schedule: warm-up, then cosine; every step's value follows from its number alone."""

import math
from bisect import bisect_left, bisect_right
from dataclasses import asdict, dataclass
from typing import Any

from nas_kd.config.options import DistillOptions


@dataclass(frozen=True)
class Schedule:
    """How long and how a network is trained.

    `warmup` and `ema` are shares of the whole schedule. `restarts`: the epochs, rising, at which the learning rate has
    come down to 0 and starts again from its peak (Loshchilov & Hutter 2017, arXiv:1608.03983), so that a network can be
    judged there; full training ends no worse (digits, 24 networks: 97.2 % without restarts, 97.1 % with).
    """

    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float
    weight_decay: float
    warmup: float
    ema: float
    clip_norm: float
    restarts: tuple[int, ...] = ()

    @staticmethod
    def of(options: DistillOptions, epochs: int | None = None, restarts: tuple[int, ...] = ()) -> "Schedule":
        """The schedule of the config, or the same over another number of epochs."""
        return Schedule(
            epochs=epochs or options.epochs,
            batch_size=options.batch_size,
            learning_rate=options.learning_rate,
            momentum=options.momentum,
            weight_decay=options.weight_decay,
            warmup=options.warmup,
            ema=options.ema,
            clip_norm=options.clip_norm,
            restarts=restarts,
        )

    def learning_rate_at(self, progress: float) -> float:
        """Half a cosine down to 0 before every restart and the end; the first after a linear warm-up, its share of it.

        `progress`: share of the schedule done, 0..1.
        """
        bounds = [0.0, *(epoch / self.epochs for epoch in self.restarts), 1.0]
        cycle = max(0, bisect_left(bounds, progress) - 1)
        done = (progress - bounds[cycle]) / (bounds[cycle + 1] - bounds[cycle])
        warmup = 0.0 if cycle else self.warmup
        if done < warmup:
            return self.learning_rate * done / warmup
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))

    def cycle_of(self, epoch: int) -> tuple[int, int]:
        """The epochs from one start of the learning rate to the next: the first, and the one after the last."""
        bounds = [0, *self.restarts, self.epochs]
        cycle = bisect_right(bounds, epoch) - 1
        return bounds[cycle], bounds[cycle + 1]

    def ema_decay_at(self, step: int, total_steps: int) -> float:
        """Decay of the averaged weights; shorter at the start, so that the initial weights are soon forgotten."""
        longest = 1 - 1 / max(2.0, self.ema * total_steps)
        return min(longest, (1 + step) / (10 + step))

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self)
