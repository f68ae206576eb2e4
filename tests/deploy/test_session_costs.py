import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from nas_kd.errors import InputError, TrialError
from nas_kd.export.onnx_export import export_onnx
from nas_kd.latency import memory_worker
from nas_kd.latency.device_profile import load_device
from nas_kd.latency.measure import measure_memory, operator_times
from nas_kd.latency.memory_worker import all_finite, peak_growth
from nas_kd.latency.operators_worker import interquartile_mean, operators
from nas_kd.latency.worker_process import run_worker

DEVICE = load_device("cpu-1t")
MIB = 2**20
needs_proc = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux reports it")


@needs_proc
def test_growth_is_that_of_the_peak() -> None:
    def work() -> int:
        return int(np.ones(64 * MIB, np.uint8).sum())  # gone again when it ends

    result, grown = peak_growth(work)
    assert result == 64 * MIB
    assert grown is not None
    assert grown == pytest.approx(64 * MIB, rel=0.1)


@needs_proc
def test_memory_follows_weights_and_samples(make_net: Callable[..., nn.Module], content: bytes) -> None:
    small = measure_memory(content, DEVICE).session_bytes
    wide = export_onnx(make_net(60_000), (3, 16, 16))  # 6 MB of weights
    large, batch = measure_memory(wide, DEVICE).session_bytes, measure_memory(content, DEVICE, 512).session_bytes
    assert small is not None
    assert large is not None
    assert batch is not None
    assert 10_000 < small < 4 * MIB
    assert large > small + len(wide)
    assert batch > small + 512 * 3 * 16 * 16 * 4


def test_memory_of_a_file_that_cannot_be_run(content: bytes, identity: Callable[..., bytes]) -> None:
    with pytest.raises(TrialError, match="not finite"):
        measure_memory(identity(op="Log"), DEVICE)
    with pytest.raises(TrialError, match=r"running the file failed: .*NoSuchOperator"):
        measure_memory(identity(op="NoSuchOperator"), DEVICE)
    with pytest.raises(InputError, match="cores"):
        measure_memory(content, replace(DEVICE, threads=4096))
    with pytest.raises(TrialError, match=r"running the file took more than 0.01 s"):
        measure_memory(content, DEVICE, timeout_s=0.01)


def test_what_counts_as_finite() -> None:
    assert all_finite([np.zeros(3, np.float32), np.arange(3)])
    assert not all_finite([np.zeros(3, np.float32), np.array([1, np.inf])])
    assert not all_finite([np.array([np.nan], np.float16)])


def test_operators_of_a_file(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    rows = operator_times(content, DEVICE)
    assert sum(row.share for row in rows) == pytest.approx(1)
    assert [row.microseconds for row in rows] == sorted((row.microseconds for row in rows), reverse=True)
    assert {"Conv", "Gemm"} <= {row.kind for row in rows}
    assert not list(tmp_path.rglob("*.json"))  # the profiler's files are gone


def test_operators_are_summed_by_node() -> None:
    def event(name: str, kind: str, dur: float, category: str = "Node") -> dict[str, object]:
        return {"cat": category, "name": name, "dur": dur, "args": {"op_name": kind}}

    events = [event("a_kernel_time", "Conv", 4)] * 4 + [event("b_kernel_time", "Relu", 9)] * 8  # b twice a call
    events += [event("a_fence_before", "Conv", 100), event("session_initialization", "", 900, "Session")]
    assert operators(events, 4) == [("Relu", "b", 18), ("Conv", "a", 4)]


def test_the_interquartile_mean_leaves_out_what_is_far_off() -> None:
    assert interquartile_mean([1, 2, 4, 900]) == 3
    assert interquartile_mean([5]) == 5


def test_the_error_says_how_a_process_died(tmp_path: Path) -> None:
    worker = tmp_path / "worker.py"
    for code, says in (
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "doing: the process was killed by signal 9"),
        ("import sys; sys.exit(3)", "doing failed: the process gave no reason"),
        ("raise ValueError('this and that')", "doing failed: ValueError: this and that"),
    ):
        worker.write_text(code)
        with pytest.raises(TrialError, match=says):
            run_worker(str(worker), {}, b"", "doing", 20)


def test_memory_that_the_system_does_not_report_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_worker, "Path", lambda _: Path("/nowhere/at/all"))
    assert peak_growth(lambda: 1) == (1, None)
