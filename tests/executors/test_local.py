"""Workers answer, fail, die and stop as they should, and end with the process that started them."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from nas_kd.errors import InputError
from nas_kd.executors.executor import ExecutorPlugin, WorkerSpec
from nas_kd.executors.in_process import InProcessExecutor
from nas_kd.executors.local import LocalExecutor
from nas_kd.plugins import load

from .jobs import Jobs

TARGET = "tests.executors.jobs:Jobs"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def workers() -> Iterator[LocalExecutor]:
    with LocalExecutor(TARGET, {"greeting": "hello"}, 2) as started:
        yield started


def test_answers_come_from_as_many_processes_each_on_its_core(workers: LocalExecutor) -> None:
    for _ in range(2):
        assert workers.has_room
        workers.submit({"do": "greet"})
    assert not workers.has_room
    with pytest.raises(RuntimeError, match="has a job"):
        workers.submit({"do": "greet"})
    first, second = workers.wait().result, workers.wait().result
    assert first[0] == second[0] == "hello"
    assert len({first[1], second[1], os.getpid()}) == 3
    if len(os.sched_getaffinity(0)) >= 2:
        assert len(first[2]) == len(second[2]) == 1
        assert first[2] != second[2]
    with pytest.raises(RuntimeError, match="no job"):
        workers.wait()


def test_whether_a_result_is_ready_is_known_without_waiting(workers: LocalExecutor) -> None:
    workers.submit({"do": "sleep", "seconds": 0.5})
    assert not workers.result_ready
    workers.submit({"do": "greet"})
    _wait_for(lambda: workers.result_ready)
    assert workers.wait().result[0] == "hello"
    workers.wait()
    assert not workers.result_ready


def test_messages_of_a_worker_arrive_and_hold_up_no_work(tmp_path: Path) -> None:
    received: list[dict[str, Any]] = []
    with LocalExecutor(TARGET, {"greeting": "hello"}, 1, received.append) as workers:
        workers.submit({"do": "send", "times": 3, "description": "short", "mark": str(tmp_path / "few")})
        assert workers.wait().result == "sent"
        assert received == [{"number": n, "description": "short"} for n in range(3)]
        received.clear()
        many = tmp_path / "more than a pipe holds"
        workers.submit({"do": "send", "times": 1000, "description": "x" * 1000, "mark": str(many)})
        _wait_for(many.exists)  # though nothing reads its messages
        assert workers.wait().result == "sent"
        assert 0 < len(received) < 1000
        received.clear()
        workers.submit({"do": "send", "times": 3, "description": "x" * 5000, "mark": str(tmp_path / "long")})
        workers.wait()
        assert not received


def _wait_for(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_is_raised_is_one_line_and_the_worker_goes_on(workers: LocalExecutor) -> None:
    workers.submit({"do": "raise"})
    result = workers.wait()
    assert (result.result, result.error, result.job) == (None, "ValueError: two lines", {"do": "raise"})
    workers.submit({"do": "greet"})
    assert workers.wait().error is None


def test_a_job_whose_worker_dies_is_tried_once_more(workers: LocalExecutor, tmp_path: Path) -> None:
    workers.submit({"do": "die once", "mark": str(tmp_path / "mark")})
    assert workers.wait().result == "survived"
    workers.submit({"do": "die"})
    result = workers.wait()
    assert result.result is None
    assert result.error is not None
    assert result.error.startswith("its worker died 2 times")
    workers.submit({"do": "greet"})
    assert workers.wait().error is None


def test_a_terminals_interrupt_is_the_coordinators_business(workers: LocalExecutor) -> None:
    workers.submit({"do": "greet"})
    pid = workers.wait().result[1]
    os.kill(pid, signal.SIGINT)
    time.sleep(0.1)
    workers.submit({"do": "greet"})
    assert workers.wait().result[1] == pid


def test_reserved_cores_are_free_of_work(workers: LocalExecutor) -> None:
    workers.submit({"do": "greet"})
    workers.submit({"do": "greet"})
    pids = [workers.wait().result[1] for _ in range(2)]
    with workers.reserve(1):
        assert sorted(_states(pids)) == ["sleeping", "stopped"]
    with workers.reserve(5):
        assert _states(pids) == ["stopped", "stopped"]
    assert "stopped" not in _states(pids)


def _states(pids: list[int]) -> list[str]:
    time.sleep(0.1)  # signals arrive when they arrive
    return [psutil.Process(pid).status() for pid in pids]


@pytest.mark.parametrize(
    ("greeting", "said"),
    [("no", "^no such greeting$"), ("broken", "^a worker cannot be set up: OSError: out of greetings$")],
)
def test_a_worker_that_cannot_be_set_up_says_why(greeting: str, said: str) -> None:
    with LocalExecutor(TARGET, {"greeting": greeting}, 1) as workers:
        workers.submit({"do": "greet"})
        with pytest.raises(InputError, match=said):
            workers.wait()


@pytest.mark.parametrize("first", ["", "of another"])
def test_a_worker_whose_coordinator_is_gone_ends_before_it_begins(first: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    serve = {"target": TARGET, "setup": {"greeting": "hello"}, "core": None, "coordinator": os.getpid() + 1}
    job = {"do": "die once", "mark": str(mark)}
    said = "".join(json.dumps(line) + "\n" for line in (serve, job)) if first else ""
    command = [sys.executable, "-m", "nas_kd.executors.serve"]
    done = subprocess.run(command, input=said, capture_output=True, text=True, cwd=ROOT, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not mark.exists()


def test_no_worker_outlives_a_killed_coordinator_not_even_a_stopped_one() -> None:
    script = f"""
        from nas_kd.executors.local import LocalExecutor
        import time
        workers = LocalExecutor({TARGET!r}, {{"greeting": "hello"}}, 2)
        pids = []
        for _ in range(2):
            workers.submit({{"do": "greet"}})
        for _ in range(2):
            print(workers.wait().result[1], flush=True)
        with workers.reserve(1):
            print("reserved", flush=True)
            time.sleep(60)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    coordinator = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert coordinator.stdout is not None
    pids = [int(coordinator.stdout.readline()) for _ in range(2)]
    assert coordinator.stdout.readline() == "reserved\n"
    coordinator.send_signal(signal.SIGKILL)
    coordinator.wait()
    coordinator.stdout.close()
    deadline = time.monotonic() + 10
    while any(_lives(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _lives(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_one_worker_is_this_process() -> None:
    created: list[Jobs] = []

    def create() -> Jobs:
        created.append(Jobs("hello", print))
        return created[-1]

    spec = WorkerSpec(TARGET, {"greeting": "hello"}, 1, print, create)
    here = load("executor", "local", ExecutorPlugin).open(spec)  # type: ignore[type-abstract]
    assert isinstance(here, InProcessExecutor)
    here.submit({"do": "greet"})
    assert (here.has_room, here.busy, here.result_ready, created) == (False, 1, True, [])
    with pytest.raises(RuntimeError, match="already"):
        here.submit({"do": "greet"})
    assert here.wait().result[1] == os.getpid()
    with pytest.raises(RuntimeError, match="no job"):
        here.wait()
    here.submit({"do": "raise"})
    with pytest.raises(ValueError, match="two"), here.reserve(1):
        here.wait()
    assert len(created) == 1
    here.close()
