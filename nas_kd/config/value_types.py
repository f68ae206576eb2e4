"""Types of options that take a number or a list: values by channel, and sides of images."""

from math import isfinite
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

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
