"""Facts about this machine that a latency depends on: processor, instruction sets, versions, load."""

import os
import platform
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime

Fact = str | int | float | bool | None
# Instruction sets that ONNX Runtime's kernels choose by; names as Linux gives them (x86, then ARM).
_FLAGS = ["avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16"]
_FLAGS += ["asimddp", "i8mm", "bf16", "sve"]


@cache
def cpu_model() -> str:
    """Name of the processor's model."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


@cache
def cpu_flags() -> str:
    """Instruction sets that kernels choose by, space-separated; empty where the system does not report them."""
    present = (_cpuinfo("flags") or _cpuinfo("Features")).split()
    return " ".join(flag for flag in _FLAGS if flag in present)


def machine_facts() -> dict[str, Fact]:
    """Collect processor, governor, load over one minute, operating system and versions; None: not reported."""
    return {
        "cpu": cpu_model(),
        "cpu_flags": cpu_flags(),
        "cores": os.cpu_count(),
        "governor": _read(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")) or None,
        "load_1m": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "onnxruntime": onnxruntime.__version__,
    }


def describe_differences(before: Mapping[str, Fact], after: Mapping[str, Fact]) -> str:
    """List the facts that changed, the load left out: `optimisation was all, is basic; ...`."""
    names = [n for n in sorted({*before, *after}) if before.get(n) != after.get(n) and n != "load_1m"]
    return "; ".join(f"{n} was {before.get(n)}, is {after.get(n)}" for n in names)


def capabilities() -> dict[str, Fact]:
    """Collect what this machine offers to a device profile: cores, instruction sets, ONNX Runtime and its providers."""
    return {
        "processor": cpu_model(),
        "cores": usable_cores(),
        "instruction_sets": cpu_flags(),
        "onnxruntime": onnxruntime.__version__,
        "providers": ", ".join(onnxruntime.get_available_providers()),
    }


def usable_cores() -> int:
    """Number of cores that this process is allowed to use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpuinfo(field: str) -> str:
    for line in _read(Path("/proc/cpuinfo")).splitlines():
        key, _, value = line.partition(":")
        if key.strip() == field:
            return value.strip()
    return ""


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:  # other systems, and virtual machines, do not have it
        return ""
