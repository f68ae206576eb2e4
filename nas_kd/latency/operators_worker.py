"""The process that finds out where an ONNX file's time goes, and ends. Started by path, knows nothing of nas_kd.

It reads a line of JSON settings and then the file from stdin, runs it under ONNX Runtime's profiler, and writes a line
of JSON to stdout: [type, name, microseconds of a call] of each operator that was run. Profiling slows every operator
down, small ones most, and its clock ticks in microseconds: the figures say where time goes, and are no latency.
"""

import json
import runpy
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

_SETUP: Mapping[str, Any] = runpy.run_path(str(Path(__file__).with_name("worker_setup.py")))
open_session, pin, samples = (_SETUP[name] for name in ("open_session", "pin", "samples"))
ENOUGH_S = 0.3
FEWEST, MOST = 8, 100  # calls
ENDING = "_kernel_time"


def profiled(job: Mapping[str, Any], content: bytes) -> tuple[list[dict[str, Any]], int]:
    """The profiler's events, and over how many calls."""
    session = open_session(content, job["settings"], job["profile_to"])
    feed = samples(session, job["batch_size"], job["input_shape"])
    end, calls = time.perf_counter() + ENOUGH_S, 0
    while calls < FEWEST or (calls < MOST and time.perf_counter() < end):
        session.run(None, feed)
        calls += 1
    return json.loads(Path(session.end_profiling()).read_text()), calls


def operators(events: Iterable[Mapping[str, Any]], calls: int) -> list[tuple[str, str, float]]:
    """Type, name and microseconds of a call of each operator, the slowest first."""
    durations: dict[tuple[str, str], list[float]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(ENDING):
            key = event["args"]["op_name"], event["name"].removesuffix(ENDING)
            durations.setdefault(key, []).append(event["dur"])
    found = [(kind, name, middle_mean(d) * len(d) / calls) for (kind, name), d in durations.items()]
    return sorted(found, key=lambda operator: -operator[2])


def middle_mean(values: list[float]) -> float:
    """Mean of the middle half: first calls and interruptions are left out, and ticks of the clock average out."""
    ordered = np.sort(values)
    quarter = len(ordered) // 4
    return float(np.mean(ordered[quarter : len(ordered) - quarter]))


def main() -> None:
    """Read the job, run the file, print."""
    job = json.loads(sys.stdin.buffer.readline())
    content = sys.stdin.buffer.read(job["candidate_bytes"])
    if job["settings"]["pinned"]:
        pin(job["settings"]["threads"])
    print(json.dumps(operators(*profiled(job, content))))


if __name__ == "__main__":
    main()
