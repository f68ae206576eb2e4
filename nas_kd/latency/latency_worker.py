"""The measuring process: times one ONNX file against a reference network, answers, and ends.

Started by path, knows nothing of nas_kd. It reads a line of JSON settings and then both files from stdin, and writes a
line of JSON to stdout: the fields of `RelativeTiming`.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from nas_kd.latency.timing_statistics import MIN_BLOCKS, Blocks, Call, RelativeTiming, summarize
    from nas_kd.latency.worker_setup import (
        REFERENCE_SETTINGS,
        CorePinning,
        CpuTicks,
        cpu_ticks,
        open_session,
        pin_to_idle_cores,
        random_inputs,
    )
else:  # by path: nas_kd cannot be imported where this file is run by path itself
    _statistics, _setup = (
        runpy.run_path(str(Path(__file__).with_name(name))) for name in ("timing_statistics.py", "worker_setup.py")
    )
    MIN_BLOCKS, Blocks, summarize = (_statistics[name] for name in ("MIN_BLOCKS", "Blocks", "summarize"))
    REFERENCE_SETTINGS, open_session = _setup["REFERENCE_SETTINGS"], _setup["open_session"]
    cpu_ticks, pin_to_idle_cores = _setup["cpu_ticks"], _setup["pin_to_idle_cores"]
    random_inputs = _setup["random_inputs"]

WARM_UP_S = 0.08
WARM_UP_CALLS = 5
BLOCK_NS = 1_000_000  # well below a scheduler's time slice, so that most blocks are undisturbed from end to end
BLOCK_CALLS = 5  # wanted in a block, where they fit into five times that
MIN_S = 0.3  # before the interval is looked at
MOVE_AFTER_BLOCKS = 20  # disturbed ones in a row; then another core may be better, although its caches are cold
SESSIONS = 5  # of both files, as it matters where a session's memory happens to lie
SLOW_OPENING_S = 0.1  # of the first two sessions; where it takes longer, they remain the only ones


def time_in_turns(
    candidates: Sequence[Call],
    references: Sequence[Call],
    seconds: float,
    baseline_ms: float | None = None,
    move: Callable[[], None] = lambda: None,
) -> RelativeTiming:
    """Time both networks by turns until the interval of the candidate's median is within +-2 %.

    Args:
        candidates: Functions that run the candidate once, one for each session; they take turns.
        references: The same of the reference network.
        seconds: Time after which the result is given even with a wider interval.
        baseline_ms: The reference's usual undisturbed time on this machine, if it is known.
        move: Called when the core stays disturbed, to move to another: a neighbour may be at work beside one core for
            long and be absent from the next.
    """
    start = time.perf_counter()
    warm_up(*candidates, *references)
    per_block = calls_per_block(candidates[0]), calls_per_block(references[0])
    blocks = Blocks(len(candidates))
    blocks.add_reference(*time_block(references[0], per_block[1]))
    began, check_at, turn, disturbed = time.perf_counter(), MIN_S, 0, 0
    while True:
        blocks.add(*time_block(candidates[turn % len(candidates)], per_block[0]))
        turn += 1
        blocks.add_reference(*time_block(references[turn % len(references)], per_block[1]))
        disturbed = disturbed + 1 if blocks.last_was_disturbed(baseline_ms) else 0
        if disturbed == MOVE_AFTER_BLOCKS:
            move()
            disturbed = 0
        elapsed = time.perf_counter() - began
        if turn < MIN_BLOCKS or elapsed < min(check_at, seconds):
            continue
        timing = summarize(blocks, time.perf_counter() - start, baseline_ms)
        if not timing.unstable or elapsed >= seconds:
            return timing
        check_at = elapsed * 1.3


def warm_up(*calls: Call) -> None:
    """Run each for a while and a number of times: allocations, code paths and the clock settle."""
    for call in calls:
        end, count = time.perf_counter() + WARM_UP_S / len(calls), 0
        while count < WARM_UP_CALLS or time.perf_counter() < end:
            call()
            count += 1


def calls_per_block(call: Call) -> int:
    """Number of calls that fill a block."""
    ns = float(np.median(time_calls(call, 3)))
    return max(1, int(BLOCK_NS / ns), min(BLOCK_CALLS, int(5 * BLOCK_NS / ns)))


def time_block(call: Call, n: int) -> tuple[NDArray[np.int64], int]:
    """Nanoseconds of each of `n` calls, and how often the system took the core away meanwhile."""
    before = forced_switches()
    times = time_calls(call, n)
    return times, forced_switches() - before


def time_calls(call: Call, n: int) -> NDArray[np.int64]:
    """Nanoseconds of each of `n` calls, after one that brings the weights back into the caches."""
    call()
    stamps = np.empty(n + 1, np.int64)
    now = time.perf_counter_ns
    stamps[0] = now()
    for i in range(1, n + 1):
        call()
        stamps[i] = now()
    return np.diff(stamps)


def forced_switches() -> int:
    """How often the system took the core away from this thread so far; 0 where it does not report that."""
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return 0
    return resource.getrusage(getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)).ru_nivcsw


def open_sessions(open_pair: Callable[[], tuple[Call, Call]], *, one_pair: bool) -> tuple[list[Call], list[Call]]:
    """Open sessions of the candidate and of the reference in pairs: five, or one if opening takes long.

    Args:
        open_pair: Opens a session of each.
        one_pair: Open one pair only.
    """
    started = time.perf_counter()
    pairs = [open_pair()]
    several = not one_pair and time.perf_counter() - started < SLOW_OPENING_S
    pairs += [open_pair() for _ in range(SESSIONS - 1)] if several else []
    return [candidate for candidate, _ in pairs], [reference for _, reference in pairs]


def make_call(
    content: bytes, settings: Mapping[str, Any], batch_size: int, input_shape: Sequence[int] | None = None
) -> Call:
    """Open a session of the file and return a function that runs it once; see `worker_setup` for the arguments."""
    session = open_session(content, settings)
    inputs = random_inputs(session, batch_size, input_shape)
    return lambda: session.run(None, inputs)


def steal_share(before: CpuTicks, after: CpuTicks, cores: Sequence[int]) -> float | None:
    """Share (0..1) of some cores' time that the hypervisor took away; None where it is not reported.

    Args:
        before: Ticks at the beginning.
        after: Ticks at the end.
        cores: Numbers of the cores.
    """
    total = sum(after[core][2] - before[core][2] for core in cores)
    return sum(after[core][1] - before[core][1] for core in cores) / total if total else None


def main() -> None:
    """Read the job from stdin, measure, and print the answer; do nothing if stdin ends before a job comes."""
    if not (line := sys.stdin.buffer.readline()):
        return
    job = json.loads(line)
    candidate = sys.stdin.buffer.read(job["candidate_bytes"])
    reference = sys.stdin.buffer.read(job["reference_bytes"])
    settings = job["settings"]
    pinning: CorePinning | None = pin_to_idle_cores(settings["threads"]) if settings["pinned"] else None

    def open_pair() -> tuple[Call, Call]:
        own = make_call(candidate, settings, job["batch_size"], job.get("input_shape"))
        return own, make_call(reference, REFERENCE_SETTINGS, 1)

    # The spinning threads of one session would take the cores of another.
    calls = open_sessions(open_pair, one_pair=settings["threads"] > 1)
    before = cpu_ticks()
    timing = time_in_turns(*calls, job["seconds"], job.get("baseline_ms"), pinning.move if pinning else lambda: None)
    after = cpu_ticks()
    used = pinning.used if pinning else []
    facts = replace(
        timing,
        pinned_to=",".join(map(str, used)) or None,
        steal=steal_share(before, after, used or sorted(before)),
        load_1m=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    )
    print(json.dumps(asdict(facts)))


if __name__ == "__main__":
    main()
