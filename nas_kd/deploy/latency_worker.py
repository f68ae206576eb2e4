"""The measuring process: times one ONNX file against a reference, and ends. Started by path, knows nothing of nas_kd.

It reads a line of JSON settings and then both files from stdin, and writes a line of JSON to stdout. All times are
told as multiples of the reference's time at that moment, so that what slows both (clock, neighbours) cancels.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Call = Callable[[], Any]

WARM_UP_S = 0.08
WARM_UP_CALLS = 5
BLOCK_NS = 1_000_000  # well below a scheduler's time slice, so that most blocks are undisturbed from end to end
BLOCK_CALLS = 5  # wanted in a block, where they fit into five times that
MIN_S = 0.3
MIN_BLOCKS = 11
TARGET = 0.02  # half-width of the interval
RESAMPLES = 400
SEGMENTS = 20  # resampled as wholes, because neighbouring blocks are alike
# Of the reference. One thread always: a second spinning pool would take the candidate's cores.
PLAIN: Mapping[str, Any] = {
    "threads": 1,
    "spinning": False,
    "optimisation": "all",
    "provider": "CPUExecutionProvider",
    "provider_options": (),
}
LEVELS = {"all": "ORT_ENABLE_ALL", "extended": "ORT_ENABLE_EXTENDED", "basic": "ORT_ENABLE_BASIC"}


@dataclass(frozen=True)
class Timing:
    """p50, p90, p99, low, high: multiples of the reference's time. `disturbed`: share of blocks with a switch."""

    p50: float
    p90: float
    p99: float
    low: float
    high: float
    unstable: bool
    raw_p50_ms: float
    reference_ms: float
    blocks: int
    calls: int
    disturbed: float
    seconds: float


class Blocks:
    """What has been timed so far, nanoseconds a call."""

    def __init__(self) -> None:
        self.reference: list[float] = []  # one more than candidate blocks: before, between and after
        self.calls: list[NDArray[np.int64]] = []
        self.reference_switches: list[int] = []
        self.switches: list[int] = []

    def add_reference(self, call: Call, n: int) -> None:
        """Time the reference."""
        before = forced_switches()
        self.reference.append(float(np.median(timed(call, n))))
        self.reference_switches.append(forced_switches() - before)

    def add(self, call: Call, n: int) -> None:
        """Time the candidate."""
        before = forced_switches()
        self.calls.append(timed(call, n))
        self.switches.append(forced_switches() - before)

    def ratios(self) -> Floats:
        """Median of each block, as a multiple of the reference next to it."""
        medians: Floats = np.array([np.median(c) for c in self.calls])
        return medians / self.speed()

    def speed(self) -> Floats:
        """The reference's time around each block."""
        reference: Floats = np.array(self.reference)
        return np.add(reference[:-1], reference[1:]) / 2

    def clean(self) -> NDArray[np.bool_]:
        """Blocks in which no other program took the core, nor in the references beside them."""
        around = np.add(self.reference_switches[:-1], self.reference_switches[1:])
        return np.equal(np.add(self.switches, around), 0)


def measure(candidate: Call, reference: Call, seconds: float) -> Timing:
    """Time both by turns until the interval of the candidate's median is within 2 %, at most `seconds`."""
    start = time.perf_counter()
    warm_up(candidate, reference)
    per_block = calls_per_block(candidate), calls_per_block(reference)
    blocks = Blocks()
    blocks.add_reference(reference, per_block[1])
    began, check_at = time.perf_counter(), MIN_S
    while True:
        blocks.add(candidate, per_block[0])
        blocks.add_reference(reference, per_block[1])
        spent = time.perf_counter() - began
        if len(blocks.calls) < MIN_BLOCKS or spent < min(check_at, seconds):
            continue
        timing = summary(blocks, time.perf_counter() - start)
        if not timing.unstable or spent >= seconds:
            return timing
        check_at = spent * 1.3


def summary(blocks: Blocks, seconds: float) -> Timing:
    """The median over undisturbed blocks and its interval; p90 and p99 over all calls, disturbed or not."""
    ratios, clean = blocks.ratios(), blocks.clean()
    enough = int(clean.sum()) >= MIN_BLOCKS
    used = ratios[clean] if enough else ratios
    p50 = float(np.median(used))
    low, high = interval(used)
    calls = np.concatenate([c / speed for c, speed in zip(blocks.calls, blocks.speed(), strict=True)])
    p90, p99 = (max(p50, float(value)) for value in np.percentile(calls, [90, 99]))
    return Timing(
        p50=p50,
        p90=p90,
        p99=p99,
        low=low,
        high=high,
        unstable=not enough or max(high - p50, p50 - low) > TARGET * p50,
        raw_p50_ms=float(np.median([np.median(c) for c in blocks.calls])) / 1e6,
        reference_ms=float(np.median(blocks.reference)) / 1e6,
        blocks=len(ratios),
        calls=len(calls),
        disturbed=1 - float(clean.mean()),
        seconds=round(seconds, 3),
    )


def interval(values: Floats) -> tuple[float, float]:
    """95 % interval of the median, by bootstrap of runs of neighbouring values (circular blocks; Politis & Romano)."""
    n = len(values)
    length = max(1, n // SEGMENTS)
    starts = np.random.default_rng(0).integers(0, n, (RESAMPLES, -(-n // length), 1))
    picked = (starts + np.arange(length)).reshape(RESAMPLES, -1)[:, :n] % n
    low, high = np.percentile(np.median(values[picked], axis=1), [2.5, 97.5])
    return float(low), float(high)


def warm_up(*calls: Call) -> None:
    """Run each for a while and a number of times: allocations, code paths and clock settle."""
    for call in calls:
        end, count = time.perf_counter() + WARM_UP_S / len(calls), 0
        while count < WARM_UP_CALLS or time.perf_counter() < end:
            call()
            count += 1


def calls_per_block(call: Call) -> int:
    """How many calls fill a block."""
    ns = float(np.median(timed(call, 3)))
    return max(1, int(BLOCK_NS / ns), min(BLOCK_CALLS, int(5 * BLOCK_NS / ns)))


def timed(call: Call, n: int) -> NDArray[np.int64]:
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
    """How often the system took the core away from this thread so far; 0 where it does not tell."""
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return 0
    return resource.getrusage(getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)).ru_nivcsw


def open_session(content: bytes, settings: Mapping[str, Any], profile_to: str | None = None) -> Any:
    """ONNX Runtime's session of the file; `profile_to`: the beginning of the name of ONNX Runtime's own profile."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings["threads"]
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    level = LEVELS.get(settings["optimisation"], "ORT_DISABLE_ALL")
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(settings["spinning"])))
    provider = (settings["provider"], dict(settings["provider_options"]))
    if profile_to is not None:
        options.enable_profiling, options.profile_file_prefix = True, profile_to
    session = onnxruntime.InferenceSession(content, options, providers=[provider])
    if session.get_providers()[0] != settings["provider"]:
        raise RuntimeError(f"ONNX Runtime did not take {settings['provider']}, it would fall back to another")
    return session


def samples(session: Any, batch_size: int, input_shape: Sequence[int] | None) -> dict[str, NDArray[np.float32]]:
    """Fixed random samples; sides that the file leaves open are those of `input_shape`, which is one sample's."""
    source = session.get_inputs()[0]
    given = [batch_size, *(input_shape or source.shape[1:])]
    shape = [side if isinstance(side, int) else wanted for side, wanted in zip(source.shape, given, strict=True)]
    return {source.name: np.random.default_rng(0).normal(size=shape).astype(np.float32)}


def caller(
    content: bytes, settings: Mapping[str, Any], batch_size: int, input_shape: Sequence[int] | None = None
) -> Call:
    """A function that runs the file once."""
    session = open_session(content, settings)
    feed = samples(session, batch_size, input_shape)
    return lambda: session.run(None, feed)


def cpu_ticks() -> dict[int, tuple[int, int, int]]:
    """(busy, steal, total) ticks of each core since boot; empty where the system does not tell."""
    try:
        with open("/proc/stat") as file:
            rows = [line.split() for line in file if line.startswith("cpu") and line[3].isdigit()]
    except OSError:
        return {}
    ticks = {int(row[0][3:]): [int(v) for v in row[1:9]] for row in rows}  # user nice system idle iowait irq soft steal
    return {core: (sum(t) - t[3] - t[4], t[7], sum(t)) for core, t in ticks.items()}


def pin(threads: int) -> list[int]:
    """Bind this process to the least busy cores, the last of equals (the first serves interrupts); [] if it cannot."""
    if not hasattr(os, "sched_setaffinity"):
        return []
    allowed = os.sched_getaffinity(0)
    before = cpu_ticks()
    time.sleep(0.05)
    after = cpu_ticks()
    busy = {core: after[core][0] - before[core][0] if core in before and core in after else 0 for core in allowed}
    cores = sorted(sorted(allowed, key=lambda core: (busy[core], -core))[:threads])
    os.sched_setaffinity(0, cores)
    return cores


def main() -> None:
    """Read the job, measure, print."""
    job = json.loads(sys.stdin.buffer.readline())
    candidate = sys.stdin.buffer.read(job["candidate_bytes"])
    reference = sys.stdin.buffer.read(job["reference_bytes"])
    settings = job["settings"]
    cores = pin(settings["threads"]) if settings["pinned"] else []
    calls = caller(candidate, settings, job["batch_size"], job.get("input_shape")), caller(reference, PLAIN, 1)
    before = cpu_ticks()
    timing = measure(*calls, job["seconds"])
    after = cpu_ticks()
    used = cores or sorted(before)
    total = sum(after[c][2] - before[c][2] for c in used)
    steal = sum(after[c][1] - before[c][1] for c in used) / total if total else None
    print(json.dumps({"timing": asdict(timing), "cores": cores, "steal": steal}))


if __name__ == "__main__":
    main()
