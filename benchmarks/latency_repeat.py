"""How well a latency repeats: three sizes of file, each measured five times in a row, on a quiet and a busy machine.

    python benchmarks/latency_repeat.py [--rounds 3] [--device cpu-1t] [--out reports/latency_repeat/result.json]

Spread: largest median / smallest - 1 within five measurements in a row. Claim: <= 3 %, also while another process
multiplies matrices on another core; measuring a small file takes <= 1 s. The uncorrected medians stand beside the
reported ones. "quiet" is what the machine was when this ran: the load before each round is in the result.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch

from nas_kd.deploy.device import DeviceProfile, load_device
from nas_kd.deploy.environment import machine
from nas_kd.deploy.export import export_onnx
from nas_kd.deploy.measure import measure_latency
from nas_kd.files import write_atomic
from nas_kd.models.normalised import Normalised
from nas_kd.plugins import load

REPEATS = 5
SHAPE = (3, 32, 32)
# Binds itself to the core given, and never rests.
BUSY = """
import os, sys
import numpy as np
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {int(sys.argv[1])})
a = np.random.default_rng(0).normal(size=(512, 512)).astype(np.float32)
while True:
    a @ a
"""


def files() -> dict[str, bytes]:
    """The smallest, the middle and the largest network of a ladder."""
    space = load("space", "resnet")
    torch.manual_seed(0)
    mean, std = torch.full((3,), 128.0), torch.full((3,), 60.0)
    ladder = zip(("small", "middle", "large"), space.ladder(3), strict=True)
    return {name: export_onnx(Normalised(space.build(a, SHAPE, 10), mean, std), SHAPE) for name, a in ladder}


@contextmanager
def busy_neighbour() -> Iterator[None]:
    """Another process at work on the last core."""
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    core = str((os.cpu_count() or 1) - 1)
    process = subprocess.Popen([sys.executable, "-c", BUSY, core], env=environment)
    try:
        time.sleep(1.0)
        yield
    finally:
        process.kill()
        process.wait()


def five_in_a_row(content: bytes, device: DeviceProfile) -> dict[str, Any]:
    """Medians (ms), their spread, and what disturbed them."""
    load_before, measured, seconds = os.getloadavg()[0], [], []
    for _ in range(REPEATS):
        started = time.perf_counter()
        measured.append(measure_latency(content, device))
        seconds.append(time.perf_counter() - started)
    medians, raw = [m.latency.p50 for m in measured], [m.raw_p50_ms for m in measured]
    return {
        "p50_ms": [round(v, 6) for v in medians],
        "uncorrected_p50_ms": [round(v, 6) for v in raw],
        "spread": round(max(medians) / min(medians) - 1, 5),
        "uncorrected_spread": round(max(raw) / min(raw) - 1, 5),
        "half_width": round(median((m.latency.high - m.latency.low) / 2 / m.latency.p50 for m in measured), 5),
        "unstable": sum(m.latency.unstable for m in measured),
        "disturbed": [round(m.disturbed, 3) for m in measured],
        "speed": [round(m.speed, 4) for m in measured],
        "attempts": [m.attempts for m in measured],
        "seconds": [round(s, 3) for s in seconds],
        "pinned_to": [m.environment["pinned_to"] for m in measured],
        "load_1m_before": round(load_before, 2),
    }


def scenario(contents: dict[str, bytes], device: DeviceProfile, rounds: int) -> dict[str, Any]:
    """Every file, `rounds` times five measurements, files by turns."""
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in contents}
    for _ in range(rounds):
        for name, content in contents.items():
            results[name].append(five_in_a_row(content, device))
    return {name: summary(rows) | {"rounds": rows} for name, rows in results.items()}


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "worst_spread": max(r["spread"] for r in rows),
        "median_spread": median(r["spread"] for r in rows),
        "worst_uncorrected_spread": max(r["uncorrected_spread"] for r in rows),
        "p50_ms": median(v for r in rows for v in r["p50_ms"]),
        "median_seconds": median(v for r in rows for v in r["seconds"]),
        "unstable": sum(r["unstable"] for r in rows),
    }


def show(name: str, results: dict[str, Any]) -> None:
    for file, r in results.items():
        print(
            f"{name:5s} {file:6s} {r['p50_ms']:8.4f} ms  spread of five: median {r['median_spread']:.2%}, "
            f"worst {r['worst_spread']:.2%} (uncorrected, worst {r['worst_uncorrected_spread']:.2%})  "
            f"{r['median_seconds']:.2f} s a measurement, {r['unstable']} unstable"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3, help="times five measurements of each file")
    parser.add_argument("--device", default="cpu-1t")
    parser.add_argument("--out", type=Path, default=Path("reports/latency_repeat/result.json"))
    args = parser.parse_args()
    device, contents = load_device(args.device), files()
    for content in contents.values():
        measure_latency(content, device)  # the first on a machine calibrates
    quiet = scenario(contents, device, args.rounds)
    show("quiet", quiet)
    with busy_neighbour():
        busy = scenario(contents, device, args.rounds)
    show("busy", busy)
    result = {
        "command": f"python benchmarks/latency_repeat.py --rounds {args.rounds} --device {args.device}",
        "repeats": REPEATS,
        "device": args.device,
        "environment": machine()
        | {"torch": torch.__version__, "host_cores": os.cpu_count(), "os": platform.platform()},
        "size_bytes": {name: len(content) for name, content in contents.items()},
        "quiet": quiet,
        "busy": busy,
    }
    write_atomic(args.out, json.dumps(result, indent=1) + "\n")
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
