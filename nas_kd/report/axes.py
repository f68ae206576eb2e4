"""Ranges and ticks of the pictures, worked out once for the page and for the PNGs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nas_kd.report import number_format as numbers
from nas_kd.report.report_context import Axis


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis; of a crowded axis, those of the lowest `level` stay."""

    at: float
    label: str
    level: int = 0


@dataclass(frozen=True)
class Scale:
    """One axis: its ends, and its ticks."""

    low: float
    high: float
    ticks: tuple[Tick, ...]


def cost_scale(values: Sequence[float], axis: Axis) -> Scale:
    """A logarithmic axis of bytes or milliseconds around `values`, all > 0."""
    logs = [math.log10(v) for v in values if v > 0] or [0.0]
    low, high = min(logs), max(logs)
    pad = max(0.06 * (high - low), 0.35 - (high - low) / 2)  # at least a factor of 5, for two ticks to fit
    low, high = low - pad, high + pad
    write = numbers.size if axis == "size" else numbers.latency
    ticks = [
        Tick(step * 10.0**power, numbers.trimmed(write(step * 10.0**power)), level)
        for power in range(math.floor(low), math.ceil(high) + 1)
        for step, level in ((1, 0), (2, 1), (5, 1))
        if low <= power + math.log10(step) <= high
    ]
    return Scale(10**low, 10**high, tuple(ticks))


def linear_scale(values: Sequence[float], write: str = "percent", floor: float | None = None) -> Scale:
    """A linear axis around `values`; `write` is `percent`, `number` or `duration`."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    pad = max(0.06 * (high - low), 1e-3)
    low, high = low - pad, high + pad
    if write == "percent":
        low, high = max(0.0, low), min(1.0 + 0.25 * pad, high)
    if floor is not None:
        low = floor
    step = _step((high - low) / 5) if write != "duration" else _time_step((high - low) / 5)
    first = math.ceil(low / step - 1e-9)
    ticks = (n * step for n in range(first, math.floor(high / step + 1e-9) + 1))
    return Scale(low, high, tuple(Tick(at, _written(at, step, write)) for at in ticks))


def _step(rough: float) -> float:
    """The nearest of 1, 2, 5 times a power of ten above `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(k * power for k in (1, 2, 5, 10) if k * power >= rough * (1 - 1e-9))


def _time_step(rough: float) -> float:
    """A step of seconds that reads well: whole seconds, minutes, hours."""
    steps = (0.1, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 43200, 86400)
    return next((s for s in steps if s >= rough), _step(rough))


def _written(at: float, step: float, write: str) -> str:
    if write == "percent":
        return numbers.percent(at, max(0, -math.floor(math.log10(step * 100) + 1e-9)))
    if write == "duration":
        return "0" if at == 0 else _short_duration(at)
    return f"{at:.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"


def _short_duration(seconds: float) -> str:
    for unit, name in ((3600, "h"), (60, "min")):
        if seconds >= unit and seconds % (unit / 2) < 1e-6:
            return f"{seconds / unit:g}{numbers.NBSP}{name}"
    return f"{seconds:g}{numbers.NBSP}s"
