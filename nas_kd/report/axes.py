"""Ranges and ticks of the plots' axes, computed once for both the page and the PNG files."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from nas_kd.report import number_format as fmt
from nas_kd.results.fronts import Axis

TickFormat = Literal["percent", "number", "count", "duration"]


@dataclass(frozen=True)
class Tick:
    """A labelled value on an axis. `level`: 0 for round powers; where space is short, higher levels are left out."""

    value: float
    label: str
    level: int = 0


@dataclass(frozen=True)
class AxisScale:
    """The range of one axis and its ticks, in rising order."""

    low: float
    high: float
    ticks: tuple[Tick, ...]


def cost_scale(values: Sequence[float], axis: Axis) -> AxisScale:
    """Build a logarithmic axis of bytes or milliseconds that holds all values.

    Args:
        values: bytes or milliseconds; those that are not positive are ignored.
        axis: which cost, for the units of the ticks.
    """
    logs = [math.log10(v) for v in values if v > 0] or [0.0]
    low, high = min(logs), max(logs)
    pad = max(0.06 * (high - low), 0.35 - (high - low) / 2)  # at least a factor of 5, for two ticks to fit
    low, high = low - pad, high + pad
    format_cost = fmt.size if axis == "size" else fmt.latency
    ticks = [
        Tick(step * 10.0**power, fmt.strip_trailing_zeros(format_cost(step * 10.0**power)), level)
        for power in range(math.floor(low), math.ceil(high) + 1)
        for step, level in ((1, 0), (2, 1), (5, 1))
        if low <= power + math.log10(step) <= high
    ]
    return AxisScale(10**low, 10**high, tuple(ticks))


def linear_scale(values: Sequence[float], tick_format: TickFormat = "percent", floor: float | None = None) -> AxisScale:
    """Build a linear axis that holds all values.

    Args:
        values: shares (0..1) for "percent", whole numbers for "count", seconds for "duration".
        tick_format: how the ticks are labelled.
        floor: where the axis begins; by default a little below the least value.
    """
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    pad = max(0.06 * (high - low), 1e-3)
    low, high = low - pad, high + pad
    if tick_format == "percent":
        low, high = max(0.0, low), min(1.0 + 0.25 * pad, high)
    if floor is not None:
        low = floor
    step = _tick_step((high - low) / 5, tick_format)
    first = math.ceil(low / step - 1e-9)
    ticks = (n * step for n in range(first, math.floor(high / step + 1e-9) + 1))
    return AxisScale(low, high, tuple(Tick(value, _tick_label(value, step, tick_format)) for value in ticks))


def _tick_step(least: float, tick_format: TickFormat) -> float:
    if tick_format == "duration":
        return _round_duration(least)
    return _round_step(max(1.0, least) if tick_format == "count" else least)


def _round_step(step: float) -> float:
    """The least of 1, 2, 5 times a power of ten that is not below `step`."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(k * power for k in (1, 2, 5, 10) if k * power >= step * (1 - 1e-9))


def _round_duration(step: float) -> float:
    """The least round number of seconds, minutes or hours that is not below `step` seconds."""
    steps = (0.1, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 43200, 86400)
    return next((s for s in steps if s >= step), _round_step(step))


def _tick_label(value: float, step: float, tick_format: TickFormat) -> str:
    if tick_format == "percent":
        return fmt.percent(value, max(0, -math.floor(math.log10(step * 100) + 1e-9)))
    if tick_format == "duration":
        return "0" if value == 0 else _short_duration(value)
    return f"{value:.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"


def _short_duration(seconds: float) -> str:
    for unit, name in ((3600, "h"), (60, "min")):
        if seconds >= unit and seconds % (unit / 2) < 1e-6:
            return f"{seconds / unit:g}{fmt.NBSP}{name}"
    return f"{seconds:g}{fmt.NBSP}s"
