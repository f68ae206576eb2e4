"""Measures one ONNX file once on `cpu-1t`, as a gate would, in a process of its own; prints a line of JSON.

    python benchmarks/latency_once.py FILE.onnx [--busy]

`--busy`: while another process multiplies matrices on the machine's last core. `seconds`: of wall clock.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a script's own folder is all that Python adds

from nas_kd.latency.device_profile import load_device
from nas_kd.latency.measure import measure_latency

FACTS = ("unstable", "raw_p50_ms", "speed", "blocks", "calls", "disturbed", "attempts", "pinned_to", "steal")
SETTLE_S = 1.0
# Binds itself to the core given, and never rests; but ends with the process that started it.
BUSY = """
import os, sys
import numpy as np
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {int(sys.argv[1])})
a = np.random.default_rng(0).normal(size=(512, 512)).astype(np.float32)
parent = os.getppid()
while os.getppid() == parent:
    a @ a
"""


@contextmanager
def busy_neighbour() -> Iterator[None]:
    """Another process at work on the last core."""
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    core = str((os.cpu_count() or 1) - 1)
    process = subprocess.Popen([sys.executable, "-c", BUSY, core], env=environment)
    try:
        time.sleep(SETTLE_S)
        yield
    finally:
        process.kill()
        process.wait()


def measured(content: bytes) -> dict[str, Any]:
    """The latency, what it rests on, and how long it took."""
    load_before, started = os.getloadavg()[0], time.perf_counter()
    latency = measure_latency(content, load_device("cpu-1t"))
    seconds = time.perf_counter() - started
    return {
        **{f"{name}_ms": getattr(latency, name) for name in ("p50", "p90", "p99", "low", "high")},
        **{name: getattr(latency, name) for name in FACTS},
        "seconds": seconds,
        "load_1m_before": load_before,
    }


def main() -> None:
    """Measure once and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("file", type=Path)
    parser.add_argument("--busy", action="store_true")
    given = parser.parse_args()
    with busy_neighbour() if given.busy else nullcontext():
        print(json.dumps(measured(given.file.read_bytes())))


if __name__ == "__main__":
    main()
