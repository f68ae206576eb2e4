"""The measuring process: its statistics on made-up times, its clock on real ones, and the cores it is bound to."""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from nas_kd.latency import latency_worker, memory_worker, operators_worker, worker_setup
from nas_kd.latency.latency_worker import open_sessions, steal_share, time_calls, time_in_turns
from nas_kd.latency.timing_statistics import (
    Blocks,
    Call,
    median_interval,
    session_half_width,
    summarize,
    undisturbed_time,
)
from nas_kd.latency.worker_setup import cpu_ticks


def spin(microseconds: float) -> None:
    end = time.perf_counter_ns() + microseconds * 1000
    while time.perf_counter_ns() < end:
        pass


def blocks_of(reference: list[float], calls: list[list[int]], switches: list[int]) -> Blocks:
    blocks = Blocks()
    blocks.reference, blocks.reference_switches = reference, [0] * len(reference)
    blocks.calls, blocks.switches = [np.array(c) for c in calls], switches
    return blocks


def test_what_slows_both_cancels() -> None:
    slow = [1.0] * 10 + [2.0] * 11  # the machine halves its speed
    blocks = blocks_of([100 * s for s in slow], [[int(300 * s)] * 3 for s in slow[:10] + slow[11:]], [0] * 20)
    ratios = blocks.ratios()
    assert ratios[:9] == pytest.approx(3)
    assert ratios[10:] == pytest.approx(3)
    assert summarize(blocks, 1).p50 == pytest.approx(3)


def test_disturbed_blocks_are_left_out_of_the_median_but_not_of_p90() -> None:
    calls = [[200] * 4] * 12 + [[900] * 4] * 14
    timing = summarize(blocks_of([100] * 27, calls, [0] * 12 + [1] * 14), 1)
    assert timing.p50 == 2
    assert timing.p90 == timing.p99 == 9
    assert timing.disturbed == pytest.approx(14 / 26)
    assert not timing.unstable


def test_percentiles_are_over_calls() -> None:
    calls = [[100 + 10 * block + call for call in range(10)] for block in range(20)]  # 100, 101, ... 299
    timing = summarize(blocks_of([100] * 21, calls, [0] * 20), 1)
    assert timing.p90 == pytest.approx(1 + 1.99 * 0.9)
    assert timing.p99 == pytest.approx(1 + 1.99 * 0.99)


def test_a_disturbed_reference_spoils_the_blocks_beside_it() -> None:
    blocks = blocks_of([100] * 5, [[200]] * 4, [0] * 4)
    blocks.reference_switches = [0, 0, 1, 0, 0]
    assert blocks.uninterrupted().tolist() == [True, False, False, True]


def test_too_few_undisturbed_blocks_are_unstable() -> None:
    assert summarize(blocks_of([100] * 21, [[200]] * 20, [1] * 15 + [0] * 5), 1).unstable


def test_a_wide_interval_is_unstable() -> None:
    calls = [[int(v)] for v in np.random.default_rng(0).uniform(100, 300, 40)]
    assert summarize(blocks_of([100] * 41, calls, [0] * 40), 1).unstable


def test_what_a_neighbour_slows_unevenly_does_not_count() -> None:
    speeds = [1.0] * 15 + [1.6] * 40  # of the reference; the candidate suffers more
    calls = [[200] * 3 if speed == 1 else [420] * 3 for speed in speeds]
    blocks = blocks_of([100 * s for s in speeds] + [160.0], calls, [0] * 55)
    timing = summarize(blocks, 1, baseline_ms=100e-6)
    assert timing.p50 == 2
    assert timing.disturbed == pytest.approx(41 / 55)  # the one between an undisturbed and a slowed reference, too
    assert timing.reference_ms == pytest.approx(100e-6)
    assert not timing.unstable
    assert summarize(blocks, 1).p50 == pytest.approx(2.625)  # without a baseline, all blocks count


def test_a_machine_that_is_always_disturbed_is_unstable() -> None:
    timing = summarize(blocks_of([160] * 21, [[400] * 3] * 20, [0] * 20), 1, baseline_ms=100e-6)
    assert (timing.unstable, timing.disturbed) == (True, 1)
    assert timing.p50 == pytest.approx(2.5)  # the best that can be had


def test_the_undisturbed_time_is_that_of_the_fastest_group() -> None:
    assert undisturbed_time([1.0, 1.01, 1.02, 1.6, 1.65, 1.7, 1.7, 1.7, 1.7]) == pytest.approx(1.01)
    assert undisturbed_time([1.6, 1.65, 1.7]) == pytest.approx(1.65)
    assert undisturbed_time([3.0]) == 3


def test_sessions_that_differ_widen_the_interval() -> None:
    session = np.arange(100) % 5
    assert session_half_width(np.full(100, 2.0), session) == 0
    assert session_half_width(np.full(100, 2.0), np.zeros(100, np.int64)) == 0
    values = 2 + 0.01 * np.array([-2, -1, 0, 1, 2])[session]
    assert session_half_width(values, session) == pytest.approx(2.776 * 0.01 * np.sqrt(2.5) * np.sqrt(1.2))
    blocks = blocks_of([100] * 101, [[int(100 * v)] for v in values], [0] * 100)
    narrow = summarize(blocks, 1)
    blocks.sessions = 5
    wide = summarize(blocks, 1)
    assert wide.high - wide.low > narrow.high - narrow.low


def test_sessions_take_turns_unless_opening_one_takes_long() -> None:
    def opening(seconds: float) -> tuple[Call, Call]:
        time.sleep(seconds)
        return (lambda: None), (lambda: None)

    assert [len(calls) for calls in open_sessions(lambda: opening(0), one_pair=False)] == [5, 5]
    assert [len(calls) for calls in open_sessions(lambda: opening(0), one_pair=True)] == [1, 1]
    assert [len(calls) for calls in open_sessions(lambda: opening(0.15), one_pair=False)] == [1, 1]


def test_the_interval_of_a_median() -> None:
    assert median_interval(np.full(50, 3.0)) == (3, 3)
    values = np.random.default_rng(1).normal(10, 1, 400)
    low, high = median_interval(values)
    assert (low, high) == median_interval(values)
    assert low < np.median(values) < high
    assert high - low == pytest.approx(2 * 1.96 * 1.2533 / 20, rel=0.5)  # asymptotic width of a normal sample's median


def test_interval_is_wider_when_neighbours_are_alike() -> None:
    values = np.random.default_rng(2).normal(10, 1, 400)
    low, high = median_interval(values)
    slow_low, slow_high = median_interval(np.sort(values))
    assert slow_high - slow_low > 2 * (high - low)


def test_intervals_hold_the_true_median_in_95_per_cent_of_cases() -> None:
    rng = np.random.default_rng(3)
    draws = [median_interval(rng.normal(10, 1, 100)) for _ in range(200)]
    assert 0.88 <= np.mean([low <= 10 <= high for low, high in draws]) <= 1


def test_twice_the_work_is_measured_as_twice() -> None:
    timing = time_in_turns([lambda: spin(200)], [lambda: spin(100)], 1.0)
    assert timing.p50 == pytest.approx(2, rel=0.03)
    assert timing.reference_ms == pytest.approx(0.1, rel=0.05)
    assert timing.seconds < 2


def test_a_disturbed_core_is_left() -> None:
    moves: list[int] = []

    def neighbour_until_moved() -> None:
        spin(160 if len(moves) < 3 else 100)

    timing = time_in_turns([lambda: spin(200)], [neighbour_until_moved], 2.0, 0.1, lambda: moves.append(1))
    assert len(moves) >= 3
    assert timing.p50 == pytest.approx(2, rel=0.05)
    assert timing.reference_ms == pytest.approx(0.1, rel=0.05)


def test_a_slow_call_ends_at_the_cap() -> None:
    timing = time_in_turns([lambda: spin(30_000)], [lambda: spin(50)], 0.2)
    assert timing.blocks == 11
    assert timing.p50 == pytest.approx(600, rel=0.2)


def test_times_of_calls_in_nanoseconds() -> None:
    times = time_calls(lambda: spin(500), 4)
    assert times.shape == (4,)
    assert (times >= 500_000).all()


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="only Linux reports them")
def test_ticks_count_up() -> None:
    before = cpu_ticks()
    spin(60_000)
    after = cpu_ticks()
    assert before.keys() == after.keys()
    assert sum(t[0] for t in after.values()) > sum(t[0] for t in before.values())


def test_steal_is_the_share_of_the_cores_that_were_used() -> None:
    before, after = {0: (0, 0, 0), 1: (5, 1, 100)}, {0: (9, 9, 100), 1: (50, 21, 200)}
    assert steal_share(before, after, [1]) == 0.2
    assert steal_share(before, after, [0, 1]) == pytest.approx(29 / 200)
    assert steal_share({}, {}, []) is None


@pytest.fixture
def core_pair() -> list[int]:
    """Two cores that this process may use."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []
    if len(cores) < 2:
        pytest.skip("one core only, or the system pins no processes")
    return cores[:2]


def lines_of_process(code: str) -> list[str]:
    """Run code in a process of its own, as binding this one would slow all other tests; the lines that it prints."""
    code = f"import os, sys; sys.path.insert(0, sys.argv[1]); import worker_setup\n{code}"
    folder = str(Path(worker_setup.__file__).parent)
    done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.mark.usefixtures("core_pair")
def test_pinning_takes_one_core() -> None:
    (printed,) = lines_of_process("print(worker_setup.pin_to_idle_cores(1).used, sorted(os.sched_getaffinity(0)))")
    chosen, _, allowed = printed.partition("] ")
    assert f"{chosen}]" == allowed


@pytest.mark.parametrize(("busy_ticks", "moves"), [(10, True), (90, False)])
def test_it_moves_to_a_core_that_was_idle(core_pair: list[int], busy_ticks: int, moves: bool) -> None:
    here, there = core_pair
    printed = lines_of_process(
        "ticks = iter([dict.fromkeys(range(4096), (0, 0, 0))] + [dict.fromkeys(range(4096), "
        f"({busy_ticks}, 0, 100))] * 9)\n"
        "worker_setup.cpu_ticks = lambda: next(ticks)\n"
        f"cores = worker_setup.CorePinning([{here}, {there}], 1); print(os.sched_getaffinity(0))\n"
        "cores.move(); print(os.sched_getaffinity(0)); print(cores.used)"
    )
    after = [there, [here, there]] if moves else [here, [here]]
    assert printed == [f"{{{here}}}", f"{{{after[0]}}}", str(after[1])]


@pytest.mark.parametrize("worker", [latency_worker, memory_worker, operators_worker])
def test_the_workers_need_numpy_and_onnxruntime_only(worker: ModuleType) -> None:
    code = (
        "import runpy, sys; runpy.run_path(sys.argv[1])\n"
        "print([m for m in ('torch', 'nas_kd', 'onnx') if m in sys.modules])"
    )
    command = [sys.executable, "-P", "-c", code, worker.__file__]
    assert subprocess.run(command, capture_output=True, text=True, check=True, cwd="/").stdout == "[]\n"
