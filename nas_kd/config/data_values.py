"""Types of options of `[data]` that take more than one form, each checked with a message of its own."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator

SMALLEST_SIDE, LARGEST_SIDE = 4, 1024  # pixels


def _checked_size(value: Any) -> Any:
    """A side, or (height, width); pydantic's own message would speak of the parts of a union."""
    if value is None:
        return None
    pair = isinstance(value, list | tuple)
    sides = value if pair else [value]
    whole = all(isinstance(side, int) and not isinstance(side, bool) for side in sides)
    if not whole or (pair and len(sides) != 2) or not all(SMALLEST_SIDE <= side <= LARGEST_SIDE for side in sides):
        raise ValueError(
            f"must be a side in pixels from {SMALLEST_SIDE} to {LARGEST_SIDE}, or [height, width], got {value!r}"
        )
    return tuple(value) if pair else value


def _checked_files(value: Any) -> Any:
    """A path, or a tuple of paths."""
    given = value if isinstance(value, list | tuple) else [value]
    if value is not None and (not given or not all(isinstance(path, str | Path) and str(path) for path in given)):
        raise ValueError(f"must be a file, a folder or a pattern (a text), or a list of these, got {value!r}")
    return tuple(value) if isinstance(value, list) else value


ImageSize = Annotated[int | tuple[int, int] | None, BeforeValidator(_checked_size)]
Files = Annotated[Path | tuple[Path, ...] | None, BeforeValidator(_checked_files)]
