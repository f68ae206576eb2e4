"""Killed at any moment, a run goes on: nothing finished is done again, and the result is the uninterrupted one's."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from nas_kd.api import load_run
from nas_kd.config_file import dump_config
from nas_kd.record import RunRecord

from .conftest import small_config

pytestmark = pytest.mark.xdist_group("small run")
MEASURED_ANEW = {"seconds", "elapsed_s", "attempts", "training_s"}


def start(config: Path, folder: Path, largest_file: int | None = None) -> subprocess.Popen[str]:
    """A search in a process of its own; `largest_file`: bytes at which the system refuses to write on."""
    code = "import resource, signal; from nas_kd.cli import app; "
    if largest_file is not None:
        code += "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        code += f"resource.setrlimit(resource.RLIMIT_FSIZE, ({largest_file}, resource.RLIM_INFINITY)); "
    command = [sys.executable, "-c", code + "app()", "search", str(config), "--run-dir", str(folder)]
    pipe, merged = subprocess.PIPE, subprocess.STDOUT
    return subprocess.Popen(command, stdout=pipe, stderr=merged, text=True, start_new_session=True)


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k not in MEASURED_ANEW}
    return [without_times(v) for v in value] if isinstance(value, list) else value


def results(run: RunRecord) -> Any:
    return without_times(run.model_dump(mode="json", include={"trials", "finalists"}))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(dump_config(small_config()))
    return path


def test_kill_9_again_and_again(run_dir: Path, finished: RunRecord, config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    shutil.copytree(run_dir / "store" / "latency", folder / "store" / "latency")
    killed, told = 0, 0
    for delay in (3.0, 4.0, 3.5, 5.0, 4.5):
        process = start(config, folder)
        time.sleep(delay)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            killed += 1
        process.communicate()
        if (folder / "study.db").exists():
            trials = load_run(folder).trials
            assert len(trials) >= told
            told = len(trials)
    output, _ = start(config, folder).communicate(timeout=300)
    assert killed >= 2, output
    assert results(load_run(folder)) == results(finished)
    mine, theirs = (json.loads((f / "front.json").read_text()) for f in (folder, run_dir))
    assert without_times(mine) == without_times(theirs)
    assert (folder / "winner/student.onnx").read_bytes() == (run_dir / "winner/student.onnx").read_bytes()


def test_ctrl_c_ends_soon_with_130_and_a_second_process_is_refused(config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "interrupted"
    process = start(config, folder)
    deadline = time.monotonic() + 60
    while not (folder / "study.db").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    second, _ = start(config, folder).communicate(timeout=60)
    assert "another process is working on this run" in second
    time.sleep(1.0)
    interrupted = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130, output
    assert time.monotonic() - interrupted < 10
    assert "interrupted; the same command goes on from here" in output
    assert "Traceback" not in output


@pytest.mark.parametrize("largest_file", [60_000, 170_000])  # stops the teacher's weights, or the study
def test_a_disk_that_takes_no_more(
    largest_file: int, run_dir: Path, finished: RunRecord, config: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "full"
    shutil.copytree(run_dir / "store" / "latency", folder / "store" / "latency")
    process = start(config, folder, largest_file)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 2, output
    assert "Traceback" not in output
    assert sum(line.startswith("error: ") for line in output.splitlines()) == 1
    assert not [p for p in folder.rglob(".*.*") if p.suffix not in {".lock", ".new"}], "half-written files are left"
    output, _ = start(config, folder).communicate(timeout=300)
    assert results(load_run(folder)) == results(finished), output
