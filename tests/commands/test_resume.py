"""Killed at any moment, a run goes on: nothing finished is done again, and the result is the uninterrupted one's."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.killed_search import Search
from benchmarks.resume_kills import Finished, differences, without_times
from nas_kd.commands.search import search
from nas_kd.config.loading import dump_config
from nas_kd.errors import InputError
from nas_kd.results.run_record import RunRecord
from tests.small_runs import Seed, small_config


def start(config: Path, folder: Path, largest_file: int | None = None) -> subprocess.Popen[str]:
    """A search in a process of its own; `largest_file`: bytes at which the system refuses to write on."""
    code = "import resource, signal; from nas_kd.cli.app import app; "
    code += "signal.signal(signal.SIGINT, signal.default_int_handler); "  # a job in the background ignores it
    if largest_file is not None:
        code += "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        code += f"resource.setrlimit(resource.RLIMIT_FSIZE, ({largest_file}, resource.RLIM_INFINITY)); "
    command = [sys.executable, "-c", code + "app()", "search", str(config), "--run-dir", str(folder)]
    pipe, merged = subprocess.PIPE, subprocess.STDOUT
    return subprocess.Popen(command, stdout=pipe, stderr=merged, text=True, start_new_session=True)


def results(run: RunRecord) -> Any:
    return without_times(run.model_dump(mode="json", include={"trials", "finalists"}))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(dump_config(small_config()))
    return path


@pytest.fixture
def folder(run_dir: Path, tmp_path: Path) -> Path:
    """With what was measured for the uninterrupted run; it trains everything itself."""
    folder = tmp_path / "run"
    for kind in ("export", "latency"):
        shutil.copytree(run_dir / "store" / kind, folder / "store" / kind)
    return folder


def trained(folder: Path, wanted: int, search: Search) -> None:
    """Wait until this many trainings are in the store."""
    deadline = time.monotonic() + 120
    while len(list((folder / "store" / "weights").glob("??/[!.]*.safetensors"))) < wanted:
        assert time.monotonic() < deadline
        assert not search.ends_in(0.01), "it was finished before it could be killed"


def killed(search: Search) -> Finished:
    """What was finished; nothing that the search had started is left."""
    search.process.kill()
    search.process.wait()
    assert search.left() == []
    return Finished.of(search.folder)


def test_kill_9_again_and_again(run_dir: Path, folder: Path, config: Path) -> None:
    seen: list[Finished] = []
    for wanted in (0, 1, 8):  # at once, after the teacher, among the trials
        killable = Search(config, folder, 1)
        trained(folder, wanted, killable)
        seen.append(killed(killable))
    search(small_config(), folder)
    end = Finished.of(folder)
    assert [len(early.files) > 0 for early in seen] == [False, True, True]
    assert seen[-1].rungs
    assert [what for early in seen for what in early.lost_in(end)] == []
    assert differences(run_dir, folder, 1) == []


def test_kill_9_of_a_worker_and_of_a_coordinator_that_has_workers(run_dir: Path, folder: Path, config: Path) -> None:
    killable = Search(config, folder, 2)
    trained(folder, 3, killable)
    killable.workers()[0].kill()
    trained(folder, 6, killable)
    assert len(killable.workers()) == 2, "no other one in its place"
    seen = killed(killable)
    search(small_config(), folder)
    assert seen.lost_in(Finished.of(folder)) == []
    assert differences(run_dir, folder, 2) == []


def test_ctrl_c_ends_soon_with_130_and_a_second_process_is_refused(
    with_latencies: Seed, config: Path, tmp_path: Path
) -> None:
    folder = with_latencies(tmp_path / "interrupted")
    process = start(config, folder)
    deadline = time.monotonic() + 60
    while not (folder / "study.db").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    with pytest.raises(InputError, match="another process is working on this run"):
        search(small_config(), folder)
    interrupted = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130, output
    assert time.monotonic() - interrupted < 10
    assert "interrupted; the same command goes on from here" in output
    assert "Traceback" not in output


@pytest.mark.parametrize("largest_file", [60_000, 170_000])  # stops the teacher's weights, or the study
def test_a_disk_that_takes_no_more(largest_file: int, finished: RunRecord, folder: Path, config: Path) -> None:
    process = start(config, folder, largest_file)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 2, output
    assert "Traceback" not in output
    assert sum(line.startswith("error: ") for line in output.splitlines()) == 1
    assert not [p for p in folder.rglob(".*.*") if p.suffix not in {".lock", ".new"}], "half-written files are left"
    assert results(search(small_config(), folder)) == results(finished)
