"""Prewarmed processes: started before there is a job for them, and ended with the process that started them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nas_kd.errors import TrialError
from nas_kd.latency import latency_worker
from nas_kd.latency.worker_process import N_PREWARMED, PrewarmedProcess, run_worker

ECHO = """
import json, os, sys
line = sys.stdin.buffer.readline()
if line:
    print(json.dumps([os.getpid(), json.loads(line)["n"]]))
"""


@pytest.fixture
def worker(tmp_path: Path) -> str:
    path = tmp_path / "worker.py"
    path.write_text(ECHO)
    return str(path)


def run_job(prewarmed: PrewarmedProcess, worker: str, n: int) -> int:
    """Run one job; the id of the process that did it."""
    pid, same = run_worker(worker, {"n": n}, b"", "echoing", 20, start=prewarmed.start)
    assert same == n
    return int(pid)


def ready(prewarmed: PrewarmedProcess) -> list[int]:
    return [process.pid for process in prewarmed._ready]


def test_the_third_job_finds_a_process_and_each_process_does_one(worker: str) -> None:
    prewarmed = PrewarmedProcess(worker)
    done = []
    for n in range(2):
        assert ready(prewarmed) == []
        done.append(run_job(prewarmed, worker, n))
        prewarmed.refill()
    for n in range(2 * N_PREWARMED):
        expected = ready(prewarmed)
        assert len(expected) == N_PREWARMED
        done.append(run_job(prewarmed, worker, n))
        assert done[-1] == expected[0]
        prewarmed.refill()
    assert len(set(done)) == len(done)


def test_a_process_that_died_waiting_is_skipped(worker: str) -> None:
    prewarmed = PrewarmedProcess(worker)
    for n in range(2):
        run_job(prewarmed, worker, n)
    prewarmed.refill()
    first, second = ready(prewarmed)
    os.kill(first, signal.SIGKILL)
    os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
    assert run_job(prewarmed, worker, 2) == second
    assert ready(prewarmed) == []


def test_another_worker_gets_its_own_process(worker: str, tmp_path: Path) -> None:
    prewarmed, other = PrewarmedProcess(worker), tmp_path / "other.py"
    other.write_text("raise ValueError('another')")
    for n in range(2):
        run_job(prewarmed, worker, n)
    prewarmed.refill()
    with pytest.raises(TrialError, match="another"):
        run_worker(str(other), {}, b"", "echoing", 20, start=prewarmed.start)
    assert len(ready(prewarmed)) == N_PREWARMED


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_they_end_with_the_object_that_started_them(worker: str) -> None:
    prewarmed = PrewarmedProcess(worker)
    for n in range(2):
        run_job(prewarmed, worker, n)
    prewarmed.refill()
    pids = ready(prewarmed)
    assert all(Path(f"/proc/{pid}").exists() for pid in pids)
    del prewarmed
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_they_end_when_the_process_that_started_them_is_killed() -> None:
    code = (
        "import time\n"
        "from nas_kd.latency import latency_worker\n"
        "from nas_kd.latency.worker_process import PrewarmedProcess\n"
        "prewarmed = PrewarmedProcess(latency_worker.__file__); prewarmed._jobs = 2; prewarmed.refill()\n"
        "print(*(p.pid for p in prewarmed._ready), flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pids = process.stdout.readline().split()
        assert len(pids) == N_PREWARMED
        assert all(Path(f"/proc/{pid}").exists() for pid in pids)
        process.kill()
    end = time.monotonic() + 20
    while any(_alive(pid) for pid in pids):
        assert time.monotonic() < end, "they are still running"
        time.sleep(0.1)


def _alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_measuring_process_ends_without_output_if_no_job_comes() -> None:
    done = subprocess.run([sys.executable, "-P", latency_worker.__file__], input=b"", capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
