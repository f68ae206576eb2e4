"""Formats numbers for the report: every number has a unit, and no more digits than its interval justifies."""

import math
from collections.abc import Iterable

from nas_kd.results.finalist_record import Accuracy
from nas_kd.results.latency import Latency

NBSP = "\u00a0"  # keeps a number and its unit on one line
MINUS = "\u2212"
TIMES = "\u00d7"
EN_DASH = "\u2013"  # between the ends of an interval
MISSING = "\u2014"  # shown where there is no number


def significant(value: float, digits: int = 3) -> str:
    """Format `value` with this many significant digits and without an exponent: `0.0123`, `12.3`, `1,230`."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else MISSING
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    rounded = round(value, decimals)
    decimals = digits - 1 - math.floor(math.log10(abs(rounded)))  # 9.996 became 10.0
    return typographic_minus(f"{rounded:,.{max(0, decimals)}f}")


def typographic_minus(text: str) -> str:
    """Replace hyphens by the typographic minus sign."""
    return text.replace("-", MINUS)


def justified_decimals(low: float, high: float) -> int:
    """Return how many decimals of a percentage an interval (ends in 0..1) justifies."""
    half_points = abs(high - low) * 50
    return 0 if half_points >= 5 else 1 if half_points >= 0.15 else 2


def column_decimals(values: Iterable[Accuracy]) -> int:
    """Return one number of decimals for a whole column: the median of what its intervals justify."""
    each = sorted(justified_decimals(v.low, v.high) for v in values)
    return each[len(each) // 2] if each else 1


def percent(share: float, decimals: int = 1) -> str:
    """Format a share (0..1): 0.983 is `98.3 %`."""
    return f"{share * 100:.{decimals}f}{NBSP}%"


def accuracy_interval(value: Accuracy, decimals: int | None = None) -> str:
    """Format an accuracy's interval in percent, without the sign: `97.6-98.9`."""
    digits = justified_decimals(value.low, value.high) if decimals is None else decimals
    return f"{value.low * 100:.{digits}f}{EN_DASH}{value.high * 100:.{digits}f}"


def accuracy_with_interval(value: Accuracy | None, decimals: int | None = None) -> str:
    """Format an accuracy with its interval: `98.3 % (97.6-98.9)`."""
    if value is None:
        return MISSING
    digits = justified_decimals(value.low, value.high) if decimals is None else decimals
    return f"{percent(value.mean, digits)} ({accuracy_interval(value, digits)})"


def percentage_points(difference: float, decimals: int = 1) -> str:
    """Format a difference of two shares, signed unless it rounds to zero: `+0.6`, `-1.2`, `0.0`."""
    text = f"{difference * 100:+.{decimals}f}"
    return text[1:] if float(text) == 0 else typographic_minus(text)


def gain_with_interval(value: Accuracy, decimals: int | None = None) -> str:
    """Format a gain in percentage points with its interval: `+0.6 (-0.1 to +1.3)`."""
    digits = justified_decimals(value.low, value.high) if decimals is None else decimals
    low, high = percentage_points(value.low, digits), percentage_points(value.high, digits)
    return f"{percentage_points(value.mean, digits)} ({low} to {high})"


def size(size_bytes: float | None) -> str:
    """Format bytes in decimal units: `23.4 kB`, `1.20 MB`."""
    if size_bytes is None:
        return MISSING
    for limit, unit in ((1e3, "B"), (1e6, "kB"), (1e9, "MB"), (math.inf, "GB")):
        if size_bytes < limit * 0.9995:
            scaled = size_bytes / (limit / 1e3 if limit < math.inf else 1e9)
            return f"{significant(scaled)}{NBSP}{unit}" if unit != "B" else f"{size_bytes:.0f}{NBSP}B"
    return MISSING


def latency(milliseconds: float | None) -> str:
    """Format milliseconds in a unit that fits: `62.3 µs`, `1.05 ms`, `2.10 s`."""
    if milliseconds is None:
        return MISSING
    if milliseconds < 0.9995:
        return f"{significant(milliseconds * 1e3)}{NBSP}µs"
    if milliseconds < 999.5:
        return f"{significant(milliseconds)}{NBSP}ms"
    return f"{significant(milliseconds / 1e3)}{NBSP}s"


def latency_interval(value: Latency) -> str:
    """Format the interval of a median latency: `61.8-62.9 µs`."""
    low, high = latency(value.low), latency(value.high)
    same_unit = low.split(NBSP)[-1] == high.split(NBSP)[-1]
    return f"{low.split(NBSP)[0] if same_unit else low}{EN_DASH}{high}"


def strip_trailing_zeros(text: str) -> str:
    """Shorten a formatted number that is exact, such as a limit: `10.0 kB` becomes `10 kB`."""
    number, _, unit = text.partition(NBSP)
    return f"{number.rstrip('0').rstrip('.') if '.' in number else number}{NBSP}{unit}"


def duration(seconds: float) -> str:
    """Format seconds for reading: `0.8 s`, `42 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds < 10:
        return f"{seconds:.1f}{NBSP}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}{NBSP}s"
    if whole < 3600:
        return f"{whole // 60}{NBSP}min {whole % 60:02d}{NBSP}s"
    minutes = round(whole / 60)
    return f"{minutes // 60}{NBSP}h {minutes % 60:02d}{NBSP}min"


def ratio(value: float) -> str:
    """Format a ratio as a number of times: `41x`, `8.3x`, with the multiplication sign."""
    return f"{significant(value, 2)}{TIMES}"


def count(number: int, singular: str, plural: str | None = None) -> str:
    """Format a number of things: `1 candidate`, `1,200 candidates`."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def join_with_and(items: Iterable[str]) -> str:
    """Join items as a sentence does: `a`, `a and b`, `a, b and c`."""
    *most, last = list(items) or [""]
    return f"{', '.join(most)} and {last}" if most else last


def capital(text: str) -> str:
    """Begin a sentence with these words: `accuracy` becomes `Accuracy`, and `mAP50` stays as it is."""
    return text if text[1:2].isupper() else f"{text[0].upper()}{text[1:]}"
