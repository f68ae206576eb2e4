"""The measuring process: times one ONNX file against a reference, and ends. Started by path, knows nothing of nas_kd.

It reads a line of JSON settings and then both files from stdin, and writes a line of JSON to stdout. All times are
told as multiples of the reference's time at that moment, so that what slows both alike (clock, heat) cancels. What a
neighbour on the same physical core does is not alike: it slows one network by a quarter and another by two thirds.
Where the reference's usual time is known, only the moments count in which the reference takes no longer.
"""

import json
import math
import runpy
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SETUP: Mapping[str, Any] = runpy.run_path(str(Path(__file__).with_name("worker_setup.py")))
PLAIN, open_session, samples = (_SETUP[name] for name in ("PLAIN", "open_session", "samples"))
cpu_ticks, pin = _SETUP["cpu_ticks"], _SETUP["pin"]
Floats = NDArray[np.float64]
Call = Callable[[], Any]

WARM_UP_S = 0.08
WARM_UP_CALLS = 5
BLOCK_NS = 1_000_000  # well below a scheduler's time slice, so that most blocks are undisturbed from end to end
BLOCK_CALLS = 5  # wanted in a block, where they fit into five times that
MIN_S = 0.3
MIN_BLOCKS = 11
NEAR_BEST = 1.1  # of the fastest: what else belongs to the group of undisturbed times
CALM = 1.05  # of the reference's usual time; its blocks scatter by 2 %, and what costs it 7 % may cost others 36
PATIENCE = 20  # blocks in a row that are disturbed; then another core may be better, whose caches are cold
TARGET = 0.02  # half-width of the interval
RESAMPLES = 400
SEGMENTS = 20  # resampled as wholes, because neighbouring blocks are alike
SESSIONS = 5  # of both files, as it matters where a session's memory happens to lie
OPENING_S = 0.1  # of the first two sessions; where it takes longer, they remain the only ones
PROCESS = 0.005  # relative standard deviation of medians from process to process beside that (reports/latency)
STUDENT_T = {3: 4.303, 4: 3.182, 5: 2.776}  # 97.5 %, by the number of values


@dataclass(frozen=True)
class Timing:
    """p50, p90, p99, low, high: multiples of the reference's time.

    `disturbed`: share of blocks in which another program took the core, or a neighbour slowed it; `reference_ms`: of
    the reference while it was left alone.
    """

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
    """What has been timed so far, nanoseconds a call; `sessions` of the candidate by turns."""

    def __init__(self, sessions: int = 1) -> None:
        self.sessions = sessions
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

    def disturbed(self, baseline_ms: float | None) -> bool:
        """Whether the last block, or the reference after it, was slowed or interrupted."""
        limit = NEAR_BEST * min(self.reference) if baseline_ms is None else CALM * baseline_ms * 1e6
        return self.reference[-1] > limit or self.reference_switches[-1] + self.switches[-1] > 0

    def calm(self, baseline_ms: float | None) -> NDArray[np.bool_]:
        """Blocks between references that took no longer than usual; all, where it is not known what is usual."""
        slowest = np.maximum(self.reference[:-1], self.reference[1:])
        limit = math.inf if baseline_ms is None else CALM * baseline_ms * 1e6
        return np.less_equal(slowest, limit)


def measure(
    candidates: Sequence[Call],
    references: Sequence[Call],
    seconds: float,
    baseline_ms: float | None = None,
    move: Callable[[], None] = lambda: None,
) -> Timing:
    """Time both by turns until the interval of the candidate's median is within 2 %, at most `seconds`.

    Both are lists of sessions, which take turns too. `usual_ms`: of the reference, undisturbed on this machine. `move`:
    called where it stays disturbed, goes elsewhere if it can: a neighbour may be at work for long beside one core and
    be absent from the next.
    """
    start = time.perf_counter()
    warm_up(*candidates, *references)
    per_block = calls_per_block(candidates[0]), calls_per_block(references[0])
    blocks = Blocks(len(candidates))
    blocks.add_reference(references[0], per_block[1])
    began, check_at, turn, disturbed = time.perf_counter(), MIN_S, 0, 0
    while True:
        blocks.add(candidates[turn % len(candidates)], per_block[0])
        turn += 1
        blocks.add_reference(references[turn % len(references)], per_block[1])
        disturbed = disturbed + 1 if blocks.disturbed(baseline_ms) else 0
        if disturbed == PATIENCE:
            move()
            disturbed = 0
        spent = time.perf_counter() - began
        if turn < MIN_BLOCKS or spent < min(check_at, seconds):
            continue
        timing = summary(blocks, time.perf_counter() - start, baseline_ms)
        if not timing.unstable or spent >= seconds:
            return timing
        check_at = spent * 1.3


def summary(blocks: Blocks, seconds: float, baseline_ms: float | None = None) -> Timing:
    """The median over undisturbed blocks and its interval; p90 and p99 over all calls, disturbed or not."""
    ratios, clean = blocks.ratios(), blocks.clean()
    quiet = clean & blocks.calm(baseline_ms)
    enough = int(quiet.sum()) >= MIN_BLOCKS
    chosen = quiet if enough else clean if int(clean.sum()) >= MIN_BLOCKS else np.ones_like(clean)
    used, session = ratios[chosen], np.arange(len(ratios))[chosen] % blocks.sessions
    p50 = float(np.median(used))
    low, high = interval(used)
    half = math.hypot(session_to_session(used, session), 1.96 * math.sqrt(2) * PROCESS * p50)
    low, high = min(low, p50 - half), max(high, p50 + half)
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
        reference_ms=undisturbed(blocks.reference) / 1e6,
        blocks=len(ratios),
        calls=len(calls),
        disturbed=1 - float(quiet.mean()),
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


def session_to_session(values: Floats, session: NDArray[np.int64]) -> float:
    """Half-width of the 95 % interval in which the median of one more session falls (Student's t); 0: too few to tell.

    A median repeats within this, not within what the noise of one session's blocks would make one believe.
    """
    medians = [float(np.median(values[session == s])) for s in np.unique(session)]
    if len(medians) not in STUDENT_T:
        return 0.0
    return float(STUDENT_T[len(medians)] * np.std(medians, ddof=1) * math.sqrt(1 + 1 / len(medians)))


def undisturbed(times: Sequence[float]) -> float:
    """The usual one of those times in which the machine was left alone, if it ever was: the median of the fastest.

    Neighbours make times fall into groups tens of per cent apart; the fastest group goes up to a tenth above the 10th
    percentile.
    """
    values: Floats = np.array(times)
    return float(np.median(values[values <= NEAR_BEST * np.percentile(values, 10)]))


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


def sessions(open_one: Callable[[], tuple[Call, Call]], exclusive_measurement: bool) -> tuple[list[Call], list[Call]]:
    """Sessions of the candidate and of the reference, by pairs; `alone`: one pair."""
    started = time.perf_counter()
    pairs = [open_one()]
    several = not exclusive_measurement and time.perf_counter() - started < OPENING_S
    pairs += [open_one() for _ in range(SESSIONS - 1)] if several else []
    return [candidate for candidate, _ in pairs], [reference for _, reference in pairs]


def caller(
    content: bytes, settings: Mapping[str, Any], batch_size: int, input_shape: Sequence[int] | None = None
) -> Call:
    """A function that runs the file once."""
    session = open_session(content, settings)
    feed = samples(session, batch_size, input_shape)
    return lambda: session.run(None, feed)


def main() -> None:
    """Read the job, measure, print; nothing where no job comes."""
    if not (line := sys.stdin.buffer.readline()):
        return
    job = json.loads(line)
    candidate = sys.stdin.buffer.read(job["candidate_bytes"])
    reference = sys.stdin.buffer.read(job["reference_bytes"])
    settings = job["settings"]
    cores = pin(settings["threads"]) if settings["pinned"] else None

    def open_one() -> tuple[Call, Call]:
        return caller(candidate, settings, job["batch_size"], job.get("input_shape")), caller(reference, PLAIN, 1)

    calls = sessions(
        open_one, exclusive_measurement=settings["threads"] > 1
    )  # spinning threads of one would take another's cores
    before = cpu_ticks()
    timing = measure(*calls, job["seconds"], job.get("usual_ms"), cores.move if cores else lambda: None)
    after = cpu_ticks()
    used = cores.used if cores else []
    watched = used or sorted(before)
    total = sum(after[c][2] - before[c][2] for c in watched)
    steal = sum(after[c][1] - before[c][1] for c in watched) / total if total else None
    print(json.dumps({"timing": asdict(timing), "cores": used, "steal": steal}))


if __name__ == "__main__":
    main()
