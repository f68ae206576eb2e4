"""The process that finds where the time of an ONNX file goes, and ends. Started by path, knows nothing of nas_kd.

It reads a line of JSON settings and then the file from stdin, runs the file under ONNX Runtime's profiler, and writes a
line of JSON to stdout: [type, name, microseconds a call] of each operator that ran. Profiling slows every operator
down, small ones most, and its clock ticks in microseconds: the figures show where the time goes, and are not latencies.
"""

import json
import runpy
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

_setup: Mapping[str, Any] = runpy.run_path(str(Path(__file__).with_name("worker_setup.py")))
open_session, random_inputs = _setup["open_session"], _setup["random_inputs"]
pin_to_idle_cores = _setup["pin_to_idle_cores"]
PROFILE_S = 0.3
MIN_CALLS, MAX_CALLS = 8, 100
KERNEL_SUFFIX = "_kernel_time"  # of the profiler's events that time an operator


def profile_operators(job: Mapping[str, Any], content: bytes) -> tuple[list[dict[str, Any]], int]:
    """Run the file under the profiler; return the profiler's events and the number of calls."""
    session = open_session(content, job["settings"], job["profile_prefix"])
    inputs = random_inputs(session, job["batch_size"], job["input_shape"])
    end, calls = time.perf_counter() + PROFILE_S, 0
    while calls < MIN_CALLS or (calls < MAX_CALLS and time.perf_counter() < end):
        session.run(None, inputs)
        calls += 1
    return json.loads(Path(session.end_profiling()).read_text()), calls


def operators(events: Iterable[Mapping[str, Any]], calls: int) -> list[tuple[str, str, float]]:
    """Sum the profiler's events by operator.

    Args:
        events: As the profiler writes them.
        calls: Number of calls that were profiled.

    Returns:
        Type, name and microseconds a call of each operator, the slowest first.
    """
    durations: dict[tuple[str, str], list[float]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(KERNEL_SUFFIX):
            key = event["args"]["op_name"], event["name"].removesuffix(KERNEL_SUFFIX)
            durations.setdefault(key, []).append(event["dur"])
    found = [(kind, name, interquartile_mean(d) * len(d) / calls) for (kind, name), d in durations.items()]
    return sorted(found, key=lambda operator: -operator[2])


def interquartile_mean(values: list[float]) -> float:
    """Mean of the middle half: leaves out first calls and interruptions, and averages the ticks of the clock."""
    ordered = np.sort(values)
    quarter = len(ordered) // 4
    return float(np.mean(ordered[quarter : len(ordered) - quarter]))


def main() -> None:
    """Read the job from stdin, profile the file, and print the answer."""
    job = json.loads(sys.stdin.buffer.readline())
    content = sys.stdin.buffer.read(job["candidate_bytes"])
    if job["settings"]["pinned"]:
        pin_to_idle_cores(job["settings"]["threads"])
    print(json.dumps(operators(*profile_operators(job, content))))


if __name__ == "__main__":
    main()
