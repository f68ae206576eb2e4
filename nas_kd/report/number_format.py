"""How the report writes numbers: a unit on each, and no more digits than the interval justifies."""

import math
from collections.abc import Iterable

from nas_kd.results.latency import Latency
from nas_kd.results.records import Accuracy

NBSP = "\u00a0"  # keeps a number and its unit on one line
MINUS = "\u2212"
TIMES = "\u00d7"
DASH = "\u2013"  # between the ends of an interval
NONE = "\u2014"  # there is no such number


def significant(value: float, digits: int = 3) -> str:
    """`value` with so many significant digits and never an exponent: 0.0123, 12.3, 1,230."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else NONE
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    rounded = round(value, decimals)
    decimals = digits - 1 - math.floor(math.log10(abs(rounded)))  # 9.996 became 10.0
    return signed_minus(f"{rounded:,.{max(0, decimals)}f}")


def signed_minus(text: str) -> str:
    """Typographic minus instead of a hyphen."""
    return text.replace("-", MINUS)


def decimals(low: float, high: float) -> int:
    """Decimals of a percentage (0..1 given) that an interval of this width justifies."""
    half_points = abs(high - low) * 50
    return 0 if half_points >= 5 else 1 if half_points >= 0.15 else 2


def column_decimals(values: Iterable[Accuracy]) -> int:
    """One number of decimals for a whole column: what the widest-known half of it justifies."""
    each = sorted(decimals(v.low, v.high) for v in values)
    return each[len(each) // 2] if each else 1


def percent(share: float, places: int = 1) -> str:
    """0.983 -> `98.3 %`."""
    return f"{share * 100:.{places}f}{NBSP}%"


def interval(value: Accuracy, places: int | None = None) -> str:
    """`97.6-98.9`, in percent without the sign."""
    digits = decimals(value.low, value.high) if places is None else places
    return f"{value.low * 100:.{digits}f}{DASH}{value.high * 100:.{digits}f}"


def accuracy(value: Accuracy | None, places: int | None = None) -> str:
    """`98.3 % (97.6-98.9)`."""
    if value is None:
        return NONE
    digits = decimals(value.low, value.high) if places is None else places
    return f"{percent(value.mean, digits)} ({interval(value, digits)})"


def points(difference: float, places: int = 1) -> str:
    """A difference of two shares, signed, in percentage points: `+0.6`, `-1.2`; what rounds to zero has no sign."""
    text = f"{difference * 100:+.{places}f}"
    return text[1:] if float(text) == 0 else signed_minus(text)


def gain(value: Accuracy, places: int | None = None) -> str:
    """`+0.6 (-0.1 to +1.3)`, in points."""
    digits = decimals(value.low, value.high) if places is None else places
    return f"{points(value.mean, digits)} ({points(value.low, digits)} to {points(value.high, digits)})"


def size(size_bytes: float | None) -> str:
    """Bytes in decimal units: `23.4 kB`, `1.20 MB`."""
    if size_bytes is None:
        return NONE
    for limit, unit in ((1e3, "B"), (1e6, "kB"), (1e9, "MB"), (math.inf, "GB")):
        if size_bytes < limit * 0.9995:
            scaled = size_bytes / (limit / 1e3 if limit < math.inf else 1e9)
            return f"{significant(scaled)}{NBSP}{unit}" if unit != "B" else f"{size_bytes:.0f}{NBSP}B"
    return NONE


def latency(milliseconds: float | None) -> str:
    """`62.3 µs`, `1.05 ms`, `2.10 s`."""
    if milliseconds is None:
        return NONE
    if milliseconds < 0.9995:
        return f"{significant(milliseconds * 1e3)}{NBSP}µs"
    if milliseconds < 999.5:
        return f"{significant(milliseconds)}{NBSP}ms"
    return f"{significant(milliseconds / 1e3)}{NBSP}s"


def trimmed(text: str) -> str:
    """`10.0 kB` -> `10 kB`, for round numbers and limits, which are exact."""
    number, _, unit = text.partition(NBSP)
    return f"{number.rstrip('0').rstrip('.') if '.' in number else number}{NBSP}{unit}"


def latency_interval(value: Latency) -> str:
    """`61.8-62.9 µs`."""
    low, high = latency(value.low), latency(value.high)
    same_unit = low.split(NBSP)[-1] == high.split(NBSP)[-1]
    return f"{low.split(NBSP)[0] if same_unit else low}{DASH}{high}"


def duration(seconds: float) -> str:
    """`0.8 s`, `42 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds < 10:
        return f"{seconds:.1f}{NBSP}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}{NBSP}s"
    if whole < 3600:
        return f"{whole // 60}{NBSP}min {whole % 60:02d}{NBSP}s"
    minutes = round(whole / 60)
    return f"{minutes // 60}{NBSP}h {minutes % 60:02d}{NBSP}min"


def factor(ratio: float) -> str:
    """How many times: 41, 8.3, with the sign."""
    return f"{significant(ratio, 2)}{TIMES}"


def count(number: int, singular: str, plural: str | None = None) -> str:
    """`1 candidate`, `1,200 candidates`."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def listing(items: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *most, last = list(items) or [""]
    return f"{', '.join(most)} and {last}" if most else last
