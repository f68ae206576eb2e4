"""How the command line writes sizes, times and scores."""

from rich.console import Console
from rich.text import Text

from nas_kd.results.finalist_record import Accuracy
from nas_kd.results.latency import Latency
from nas_kd.results.trial_record import Costs

UNSTABLE = " (unstable)"


def print_plain(console: Console, text: str) -> None:
    """Print text as it is: brackets, colons and braces in names of files mean nothing.

    Args:
        console: where to.
        text: one line, which is not wrapped.
    """
    console.print(Text(text), soft_wrap=True)


def kilobytes(size_bytes: int | None) -> str:
    """Write a size, such as `94.7 kB`; "unknown" without one."""
    return "unknown" if size_bytes is None else f"{size_bytes / 1000:.1f} kB"


def size_and_latency(costs: Costs) -> str:
    """Write a size and a median latency, such as `94.7 kB, 22.8 us`."""
    if costs.size_bytes is None and costs.latency_ms is None:
        return "size and latency unknown"
    return f"{kilobytes(costs.size_bytes)}, {milliseconds(costs.latency_ms)}"


def milliseconds(latency: Latency | None, unstable: str = UNSTABLE) -> str:
    """The median, as `22.8 us` or `1.25 ms`, with a mark if the measurement was disturbed."""
    if latency is None:
        return "unknown"
    figure = f"{latency.p50 * 1000:.3g} us" if latency.p50 < 1 else f"{latency.p50:.3g} ms"
    return f"{figure}{unstable if latency.unstable else ''}"


def percent(accuracy: Accuracy) -> str:
    """`97.2% [95.1, 98.4]`, with its 95 % interval."""
    return f"{accuracy.mean:.1%} [{accuracy.low * 100:.1f}, {accuracy.high * 100:.1f}]"
