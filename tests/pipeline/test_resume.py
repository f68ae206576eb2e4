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
from nas_kd.commands.load_run import read_run
from nas_kd.config.loading import dump_config
from nas_kd.context.run_folder import RunFolder
from nas_kd.results.run_record import RunRecord
from tests.small_runs import small_config

pytestmark = pytest.mark.xdist_group("small run")


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


def trained(folder: Path, so_many: int, search: Search) -> None:
    """Wait until this many trainings are in the store."""
    deadline = time.monotonic() + 120
    while len(list((folder / "store" / "weights").glob("??/[!.]*.safetensors"))) < so_many:
        assert time.monotonic() < deadline
        assert not search.ends_in(0.01), "it was finished before it could be killed"


def killed(search: Search) -> Finished:
    """What was finished; nothing that the search had started is left."""
    search.process.kill()
    search.process.wait()
    assert search.left() == []
    return Finished.of(search.folder)


def test_kill_9_again_and_again(run_dir: Path, config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    shutil.copytree(run_dir / "store" / "latency", folder / "store" / "latency")
    seen: list[Finished] = []
    for so_many in (0, 1, 4, 10):  # at once, after the teacher, among the trials, later
        search = Search(config, folder, 1)
        trained(folder, so_many, search)
        time.sleep(0.1 * len(seen))
        seen.append(killed(search))
    Search(config, folder, 1).ended_well()
    end = Finished.of(folder)
    assert [len(early.files) > 0 for early in seen] == [False, True, True, True]
    assert seen[-1].rungs
    assert [what for early in seen for what in early.lost_in(end)] == []
    assert differences(run_dir, folder, 1) == []


def test_kill_9_of_a_worker_and_of_a_coordinator_that_has_workers(run_dir: Path, config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    for kind in ("export", "latency"):
        shutil.copytree(run_dir / "store" / kind, folder / "store" / kind)
    search = Search(config, folder, 2)
    trained(folder, 3, search)
    search.workers()[0].kill()
    trained(folder, 6, search)
    assert len(search.workers()) == 2, "no other one in its place"
    seen = killed(search)
    Search(config, folder, 2).ended_well()
    assert seen.lost_in(Finished.of(folder)) == []
    assert differences(run_dir, folder, 2) == []


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
    assert results(read_run(RunFolder(folder))) == results(finished), output
