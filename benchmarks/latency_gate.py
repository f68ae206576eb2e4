"""How long the gate takes for candidates that it has never seen; prints a line of JSON.

    python benchmarks/latency_gate.py [--count 200]

Random candidates of both spaces for 3 x 32 x 32 images, no budget: every one is built, exported, counted and measured.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a script's own folder is all that Python adds

import numpy as np

from benchmarks.latency_files import SHAPE, drawn
from nas_kd.config.options import DataOptions, SearchConfig
from nas_kd.context.callbacks import Callback
from nas_kd.context.run_context import RunContext
from nas_kd.context.run_folder import RunFolder
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.nas.gate import Gate

SAMPLES = 400


def gate_of(folder: Path) -> Gate:
    """A gate for random images, with an empty cache."""
    images = np.random.default_rng(0).integers(0, 256, (SAMPLES, *SHAPE), dtype=np.uint8)
    np.savez(folder / "images.npz", x_train=images, y_train=np.arange(SAMPLES) % 10)
    config = SearchConfig(data=DataOptions(source="npz", path=folder / "images.npz"))
    context = RunContext.prepare(config, RunFolder(folder / "run"), Callback())
    return Gate(context, NetworkBuilder(context.data, context.space))


def gated(count: int) -> dict[str, Any]:
    """Seconds of each candidate and of all."""
    with TemporaryDirectory() as folder:
        gate, architectures, seconds = gate_of(Path(folder)), drawn(count, seed=2), []
        began = time.perf_counter()
        for architecture in architectures:
            started = time.perf_counter()
            costs = gate.all_costs(architecture, quick=True)
            if costs.latency_ms is None:
                raise RuntimeError("a candidate was not measured")
            seconds.append(time.perf_counter() - started)
        return {"seconds": seconds, "total_s": time.perf_counter() - began}


def main() -> None:
    """Measure the gate and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--count", type=int, default=200)
    print(json.dumps(gated(parser.parse_args().count)))


if __name__ == "__main__":
    main()
