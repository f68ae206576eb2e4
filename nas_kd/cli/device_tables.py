"""What the terminal shows of devices, and of files measured on them."""

from collections.abc import Mapping

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from nas_kd.errors import InputError
from nas_kd.latency.device_profile import DeviceProfile
from nas_kd.latency.environment import Fact, capabilities
from nas_kd.latency.measured_file import MeasuredFile

SLOWEST = 10


def print_devices(profiles: Mapping[str, DeviceProfile]) -> None:
    """Each profile with whether it can be used here, then what this machine has."""
    table = Table(Column("name", no_wrap=True), "what it is", "on this machine")
    for name, profile in profiles.items():
        table.add_row(name, escape(profile.summary), escape(_usable(profile)))
    console = Console()
    console.print(table)
    _print_facts(console, "this machine", capabilities())
    console.print("your own: a TOML file (docs/devices.md), or package.module:Name", highlight=False)


def _usable(profile: DeviceProfile) -> str:
    try:
        profile.check()
    except InputError as error:
        return f"no: {error}"
    return "yes"


def print_measured(file: MeasuredFile) -> None:
    """Costs of a file, its slowest operators, and what the figures were measured on."""
    console, measured = Console(), file.measurement
    table = Table(title=escape(file.file), title_justify="left", show_header=False)
    for name, value in _figures(file).items():
        table.add_row(name, value)
    console.print(table)
    slowest = Table("operator", "name", Column("share", justify="right"), Column("us", justify="right"), box=box.SIMPLE)
    slowest.title = f"slowest of {len(file.operators)} operators, from a run of its own under ONNX Runtime's profiler"
    slowest.title_justify = "left"
    for operator in file.operators[:SLOWEST]:
        figures = f"{operator.share:.1%}", f"{operator.microseconds:.1f}"
        slowest.add_row(escape(operator.kind), escape(operator.name), *figures)
    console.print(slowest)
    _print_facts(console, "measured on", {**file.device.environment, **measured.environment})


def _figures(file: MeasuredFile) -> dict[str, str]:
    latency, measured, sizes = file.latency, file.measurement, file.sizes
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
        "measured": f"{measured.blocks} blocks, {measured.calls:,} calls, {measured.seconds:.1f} s, "
        f"{measured.disturbed:.0%} of the blocks disturbed",
    }


def _kb(size_bytes: int | None) -> str:
    return "unknown" if size_bytes is None else f"{size_bytes / 1000:,.1f} kB"


def _print_facts(console: Console, title: str, facts: Mapping[str, Fact]) -> None:
    told = ((name, "unknown" if fact is None else str(fact)) for name, fact in facts.items())
    description = "; ".join(f"{name.replace('_', ' ')} {value}" for name, value in told if value)
    console.print(f"{title}: {escape(description)}", highlight=False, soft_wrap=True)
