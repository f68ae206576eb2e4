"""Processes that are started before there is a job for them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nas_kd.errors import TrialError
from nas_kd.latency import latency_worker
from nas_kd.latency.worker_process import WAITING, PrewarmedProcess, ask

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


def asked(ahead: PrewarmedProcess, worker: str, n: int) -> int:
    """The process that did the job."""
    pid, same = ask(worker, {"n": n}, b"", "echoing", 20, start=ahead.start)
    assert same == n
    return int(pid)


def waiting(ahead: PrewarmedProcess) -> list[int]:
    return [process.pid for process in ahead._waiting]


def test_the_third_job_finds_a_process_and_each_process_does_one(worker: str) -> None:
    ahead = PrewarmedProcess(worker)
    done = []
    for n in range(2):
        assert waiting(ahead) == []
        done.append(asked(ahead, worker, n))
        ahead.renew()
    for n in range(2 * WAITING):
        expected = waiting(ahead)
        assert len(expected) == WAITING
        done.append(asked(ahead, worker, n))
        assert done[-1] == expected[0]
        ahead.renew()
    assert len(set(done)) == len(done)


def test_who_died_waiting_does_no_harm(worker: str) -> None:
    ahead = PrewarmedProcess(worker)
    for n in range(2):
        asked(ahead, worker, n)
    ahead.renew()
    first, second = waiting(ahead)
    os.kill(first, signal.SIGKILL)
    os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
    assert asked(ahead, worker, 2) == second
    assert waiting(ahead) == []


def test_another_worker_gets_its_own_process(worker: str, tmp_path: Path) -> None:
    ahead, other = PrewarmedProcess(worker), tmp_path / "other.py"
    other.write_text("raise ValueError('another')")
    for n in range(2):
        asked(ahead, worker, n)
    ahead.renew()
    with pytest.raises(TrialError, match="another"):
        ask(str(other), {}, b"", "echoing", 20, start=ahead.start)
    assert len(waiting(ahead)) == WAITING


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_nobody_waits_longer_than_who_started_them(worker: str) -> None:
    ahead = PrewarmedProcess(worker)
    for n in range(2):
        asked(ahead, worker, n)
    ahead.renew()
    pids = waiting(ahead)
    assert all(Path(f"/proc/{pid}").exists() for pid in pids)
    del ahead
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_they_end_when_the_process_that_started_them_is_killed() -> None:
    code = (
        "import time; from nas_kd.latency import latency_worker; from nas_kd.latency.worker_process import Ahead\n"
        "ahead = Ahead(latency_worker.__file__); ahead._jobs = 2; ahead.renew()\n"
        "print(*(p.pid for p in ahead._waiting), flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pids = process.stdout.readline().split()
        assert len(pids) == WAITING
        assert all(Path(f"/proc/{pid}").exists() for pid in pids)
        process.kill()
    end = time.monotonic() + 20
    while any(_alive(pid) for pid in pids):
        assert time.monotonic() < end, "they still wait"
        time.sleep(0.1)


def _alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_measuring_process_ends_in_silence_where_no_job_comes() -> None:
    done = subprocess.run([sys.executable, "-P", latency_worker.__file__], input=b"", capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
