"""The training schedule: warm-up, then cosine; every step's value follows from its number alone."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from nas_kd.config import DistillOptions


@dataclass(frozen=True)
class Schedule:
    """How long and how a network is trained. `warmup` and `ema` are shares of the whole schedule."""

    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float
    weight_decay: float
    warmup: float
    ema: float
    clip_norm: float

    @staticmethod
    def of(options: DistillOptions, epochs: int | None = None) -> "Schedule":
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
        )

    def learning_rate_at(self, progress: float) -> float:
        """Linear warm-up, then half a cosine down to 0. `progress`: share of the schedule done, 0..1."""
        if progress < self.warmup:
            return self.learning_rate * progress / self.warmup
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (progress - self.warmup) / (1 - self.warmup)))

    def ema_decay_at(self, step: int, total_steps: int) -> float:
        """Decay of the averaged weights; shorter at the start, so that the initial weights are soon forgotten."""
        longest = 1 - 1 / max(2.0, self.ema * total_steps)
        return min(longest, (1 + step) / (10 + step))

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self)
