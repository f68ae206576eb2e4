"""Types of options that are more than one number or text: checked when a config is read, before anything is trained."""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

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


@dataclass(frozen=True)
class AutoIfNone:
    """Marks an option whose None is written "auto": the tool chooses a value that suits the data."""


@dataclass(frozen=True)
class AutoIfUnset:
    """Marks an option that may be written "auto", which is as if it were left out: its default depends on others."""


AUTO = "auto"


def _none_if_auto(value: Any) -> Any:
    return None if isinstance(value, str) and value == AUTO else value


MayBeAuto = BeforeValidator(_none_if_auto)
AutoInt = Annotated[int | None, MayBeAuto, AutoIfNone()]
AutoFloat = Annotated[float | None, MayBeAuto, AutoIfNone()]


@dataclass(frozen=True)
class FileIfEndsWith:
    """Marks an option that holds a name or a path: a value with this ending is a path, relative to the config."""

    ending: str
