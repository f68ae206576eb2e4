"""The terminal's tables of device profiles, and of files measured on a device."""

from collections.abc import Mapping

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from nas_kd.errors import InputError
from nas_kd.latency.device_profile import DeviceProfile
from nas_kd.latency.environment import Fact, capabilities
from nas_kd.latency.measured_file import MeasuredFile

MAX_OPERATORS = 10


def print_devices(profiles: Mapping[str, DeviceProfile]) -> None:
    """Print each profile with whether it can be used on this machine, then what this machine has."""
    table = Table(Column("name", no_wrap=True), "what it is", "on this machine")
    for name, profile in profiles.items():
        table.add_row(name, escape(profile.summary), escape(_usable(profile)))
    console = Console()
    console.print(table)
    _print_facts(console, "this machine", capabilities())
    console.print("your own: a TOML file (docs/devices.md), or package.module:Name", highlight=False)


def print_measured(file: MeasuredFile) -> None:
    """Print the costs of a file, its slowest operators, and what the figures rest on."""
    console = Console()
    table = Table(title=escape(file.file), title_justify="left", show_header=False)
    for name, value in _figures(file).items():
        table.add_row(name, value)
    console.print(table)
    slowest = Table("operator", "name", Column("share", justify="right"), Column("us", justify="right"), box=box.SIMPLE)
    slowest.title = f"slowest of {len(file.operators)} operators, from a run of its own under ONNX Runtime's profiler"
    slowest.title_justify = "left"
    for operator in file.operators[:MAX_OPERATORS]:
        figures = f"{operator.share:.1%}", f"{operator.microseconds:.1f}"
        slowest.add_row(escape(operator.kind), escape(operator.name), *figures)
    console.print(slowest)
    _print_facts(console, "measured on", file.environment)


def _usable(profile: DeviceProfile) -> str:
    try:
        profile.check()
    except InputError as error:
        return f"no: {error}"
    return "yes"


def _figures(file: MeasuredFile) -> dict[str, str]:
    latency, sizes = file.latency, file.sizes
    unstable = " unstable" if latency.unstable else ""
    p99 = {} if latency.p99 is None else {"latency p99": f"{latency.p99:.4g} ms"}
    shape = ", ".join(map(str, (file.batch_size, *file.input_shape)))
    return {
        "device": escape(f"{file.device.name}: {file.device.description}"),
        "input": f"({shape})",
        "latency p50": f"{latency.p50:.4g} ms \\[{latency.low:.4g}, {latency.high:.4g}]{unstable}",
        "latency p90": f"{latency.p90:.4g} ms",
        **p99,
        "throughput": f"{file.samples_per_s:,.0f} samples/s at {file.batch_size} a call",
        "size": f"{_kb(sizes.file)}; {_kb(sizes.stripped)} without names and metadata; {_kb(sizes.weights)} of weights",
        "weights": f"{file.parameters:,}",
        "multiply-adds": f"{file.macs:,} a sample",
        "peak memory": f"{_kb(file.memory.session_bytes)} of a session; the runtime {_kb(file.memory.runtime_bytes)}",
        "measured": f"{latency.blocks} blocks, {latency.calls:,} calls, {latency.seconds:.1f} s, "
        f"{latency.disturbed:.0%} of the blocks disturbed",
    }


def _kb(size_bytes: int | None) -> str:
    return "unknown" if size_bytes is None else f"{size_bytes / 1000:,.1f} kB"


def _print_facts(console: Console, title: str, facts: Mapping[str, Fact]) -> None:
    texts = ((name, "unknown" if fact is None else str(fact)) for name, fact in facts.items())
    line = "; ".join(f"{name.replace('_', ' ')} {text}" for name, text in texts if text)
    console.print(f"{title}: {escape(line)}", highlight=False, soft_wrap=True)
