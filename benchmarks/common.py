"""What the benchmarks share: networks, peak memory, timing by turns, and facts about the machine."""

import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nas_kd.engine.numerics import seeded
from nas_kd.latency.environment import cpu_model
from nas_kd.models.wrappers import Normalized
from nas_kd.plugins import load

WIDTHS = (16, 32, 64)
Seconds = NDArray[np.float64]


def numbers(text: str) -> tuple[int, ...]:
    """`0,1,2` -> (0, 1, 2)."""
    return tuple(int(part) for part in text.split(","))


def residual_net(blocks: int, seed: int, *, n_classes: int, mean: Tensor, std: Tensor) -> nn.Module:
    """ResNet-(6 blocks + 2) for CIFAR (He et al. 2015): three stages of `blocks` blocks, 16-32-64 wide, kernel 3.

    Built by space `resnet`, whose own range ends at 2 blocks a stage. Where the width changes its shortcut is a 1x1
    convolution; the paper's pads with zeros.
    """
    choices = {"stem_stride": 1}
    for stage, width in enumerate(WIDTHS, start=1):
        choices |= {f"width_{stage}": width, f"depth_{stage}": blocks, f"kernel_{stage}": 3}
    with seeded(seed, 0):
        body = load("space", "resnet").network(choices, len(mean), n_classes)
    return Normalized(body, mean, std)


def net_words(blocks: int) -> str:
    """`ResNet-20 (3 blocks a stage, 16-32-64)`."""
    return f"ResNet-{6 * blocks + 2} ({blocks} block{'s' if blocks > 1 else ''} a stage, 16-32-64)"


def machine_facts(threads: int) -> dict[str, Any]:
    """What times mean nothing without."""
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "threads": threads,
        "torch": torch.__version__,
        "python": sys.version.split()[0],
        "load_1m": round(os.getloadavg()[0], 2),
    }


def reset_peak() -> None:
    """Forget this process's largest memory so far, where the system can (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # elsewhere the peak includes loading the data
        return


def peak_mib() -> float:
    """This process's largest resident memory since `reset_peak`, MiB."""
    try:
        status = Path("/proc/self/status").read_text()
        kib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
        return kib / 1024
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def by_turns(runs: Mapping[str, Callable[[], None]], blocks: int) -> dict[str, Seconds]:
    """Seconds of each contestant in each of `blocks` blocks, all contestants in turn; one block before is not counted.

    Every block goes through them in an order of its own (seeded), so that none always follows the same neighbour.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    generator = np.random.default_rng(0)
    for block in range(blocks + 1):
        for name in generator.permutation(list(runs)):
            started = time.perf_counter()
            runs[name]()
            if block:
                times[name].append(time.perf_counter() - started)
    return {name: np.array(t) for name, t in times.items()}


def spread(values: Seconds, digits: int = 4) -> dict[str, float]:
    """The median and the quartiles of repeated times."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return {"median": round(float(middle), digits), "q25": round(float(low), digits), "q75": round(float(high), digits)}


def in_words(figures: Mapping[str, float], digits: int = 2) -> str:
    """The median with its quartiles, as in `1.03 [1.01, 1.05]`."""
    return f"{figures['median']:.{digits}f} [{figures['q25']:.{digits}f}, {figures['q75']:.{digits}f}]"


def markdown_table(head: list[str], rows: list[list[str]]) -> str:
    """A table; the first column is aligned left, all others right."""
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
