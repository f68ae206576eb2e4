"""Types of options that are more than one number or text: checked when a config is read, before anything is trained."""

from math import isfinite
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator

IMAGENET = "imagenet"
MAX_SIDE = 4096  # pixels


def _by_channel(value: Any) -> Any:
    """Make a tuple of a number or a list of numbers; the name stays as it is."""
    if value is None or value == IMAGENET:
        return value
    items = value if isinstance(value, list | tuple) else (value,)
    if not items or not all(isinstance(v, int | float) and not isinstance(v, bool) and isfinite(v) for v in items):
        raise ValueError(f'must be a number, a list with one for each channel, or "{IMAGENET}", got {value!r}')
    return tuple(map(float, items))


def _positive(value: Any) -> Any:
    if isinstance(value, tuple) and min(value) <= 0:
        raise ValueError(f"must be > 0, got {min(value):g}")
    return value


def _sides(value: Any) -> Any:
    """Make a tuple of one side of a square, or of height and width."""
    if value is None:
        return value
    items = value if isinstance(value, list | tuple) else (value,)
    whole = all(isinstance(v, int) and not isinstance(v, bool) and 1 <= v <= MAX_SIDE for v in items)
    if len(items) not in (1, 2) or not whole:
        raise ValueError(f"must be a side in pixels or [height, width], each from 1 to {MAX_SIDE}, got {value!r}")
    return tuple(items)


# A number, a list with one for each channel, or "imagenet".
ByChannel = Annotated[tuple[float, ...] | Literal["imagenet"] | None, BeforeValidator(_by_channel)]
PositiveByChannel = Annotated[
    tuple[float, ...] | Literal["imagenet"] | None, BeforeValidator(_positive), BeforeValidator(_by_channel)
]
Sides = Annotated[tuple[int, ...] | None, BeforeValidator(_sides)]  # of a square, or height and width, in pixels


LOG_LIMITS = 1e-6, 1e6  # of ranges that are searched on a logarithmic scale


def log_range(value: tuple[float, float]) -> tuple[float, float]:
    """Refuse a range that cannot be searched on a logarithmic scale.

    Raises:
        ValueError: it starts at 0 or below, is the wrong way round, or reaches too far.
    """
    low, high = value
    given = f"got [{low:g}, {high:g}]"
    if low <= 0:
        raise ValueError(f"must be two numbers > 0, as they are searched on a logarithmic scale, {given}")
    if low > high:
        raise ValueError(f"must have the smaller number first, {given}")
    if low < LOG_LIMITS[0] or high > LOG_LIMITS[1]:
        raise ValueError(f"must be within {LOG_LIMITS[0]:g} and {LOG_LIMITS[1]:,.0f}, {given}")
    return value


def without_repeats(values: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Refuse a list of names that has one twice; sums of methods count by their parts, `a+b` as `b+a`.

    Raises:
        ValueError: names it.
    """
    seen: set[str] = set()
    for value in values or ():
        same = "+".join(sorted(value.split("+")))
        if same in seen:
            raise ValueError(f"has {value!r} twice; name each once")
        seen.add(same)
    return values


LogRange = Annotated[tuple[float, float], AfterValidator(log_range)]
Names = Annotated[tuple[str, ...], AfterValidator(without_repeats)]  # each once
