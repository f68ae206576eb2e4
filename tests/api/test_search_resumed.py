"""A run of objects goes on in whatever process makes the same call, until it is finished; any other call is refused."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import nas_kd

from .search_toys import LogitMatching, Recorder, TinySpace, splits, tiny_search
from .toys import Net, net

pytestmark = pytest.mark.xdist_group("tiny run")
ROOT = Path(__file__).parents[2]

KILLED = """
import os, sys
from tests.api.search_toys import *

class Mine(LogitMatching):
    name = "mine"

class Kill(nas_kd.Callback):
    def on_trial_end(self, record, trials, hypervolume):
        os._exit(9)

folder, teacher = Path(sys.argv[1]), saved_teacher(Path(sys.argv[2]))
try:
    tiny_search(folder.with_name("refused"), teacher, methods=[Mine], workers=2)
except nas_kd.InputError as error:
    print(error, flush=True)
tiny_search(folder, teacher, callbacks=Kill())
"""


@dataclass(frozen=True)
class History:
    """A run that was killed in another process, stopped, and interrupted by a callback's error, before it ended."""

    killed: subprocess.CompletedProcess[str]
    after_the_kill: nas_kd.Run
    stop: Recorder
    stopped: nas_kd.Run
    error: nas_kd.CallbackError
    last: Recorder
    finished: nas_kd.Run


@pytest.fixture(scope="module")
def history(run_dir: Path, teacher: Net, teacher_file: Path, tmp_path_factory: pytest.TempPathFactory) -> History:
    folder = tmp_path_factory.mktemp("history") / "demo"
    (folder / "store").mkdir(parents=True)
    (folder / "store" / "latency").symlink_to(run_dir / "store" / "latency")
    command = [sys.executable, "-c", KILLED, str(folder), str(teacher_file)]
    killed = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    after_the_kill = nas_kd.load_run(folder)
    stop, last = Recorder(nas_kd.StopRun("enough"), at=1), Recorder()
    stopped = tiny_search(folder, teacher, callbacks=stop)
    with pytest.raises(nas_kd.CallbackError) as caught:
        tiny_search(folder, teacher, callbacks=[Recorder(KeyError("column"), at=2)])
    finished = tiny_search(folder, teacher, callbacks=last)
    return History(killed, after_the_kill, stop, stopped, caught.value, last, finished)


def known(trials: Any) -> list[Any]:
    return [(t.number, t.id, t.status, t.val_accuracy, t.rungs and t.rungs[-1].epochs) for t in trials]


def test_a_method_of_the_main_module_cannot_reach_workers(history: History) -> None:
    assert history.killed.stdout == (
        "the method is defined in this program's main module, which workers cannot import; "
        "move its class to a module of its own, or use workers=1\n"
    )


def test_what_a_killed_process_had_finished_is_kept(history: History, run: nas_kd.Run) -> None:
    assert history.killed.returncode == 9, history.killed.stderr
    assert history.after_the_kill.state == "searching"
    assert known(history.after_the_kill.trials) == known(run.trials[:1])
    assert history.after_the_kill.winner is None
    assert history.after_the_kill.finalists == []


def test_a_stop_returns_the_run_so_far(history: History, run: nas_kd.Run) -> None:
    assert history.stop.resumed == [True]
    assert [t.number for t in history.stop.trials] == [1]
    assert history.stopped.state == "searching"
    assert known(history.stopped.trials) == known(run.trials[:2])
    assert history.stopped.winner is None
    assert "<table>" not in history.stopped._repr_html_()


def test_an_error_of_a_callback_loses_nothing(history: History, run: nas_kd.Run) -> None:
    assert str(history.error) == "callback Recorder.on_trial_end raised KeyError: 'column'"
    assert isinstance(history.error.__cause__, KeyError)
    assert history.last.trials == []


def test_the_end_is_that_of_an_uninterrupted_run(history: History, run: nas_kd.Run) -> None:
    finished = history.finished
    assert finished.state == "finished"
    assert known(finished.trials) == known(run.trials)
    assert [(f.id, f.val, f.test) for f in finished.finalists] == [(f.id, f.val, f.test) for f in run.finalists]
    assert (finished.folder.winner / "student.onnx").read_bytes() == (run.folder.winner / "student.onnx").read_bytes()
    assert (finished.folder.report / "index.html").is_file()


def test_a_finished_run_is_read(teacher: Net, run_dir: Path, run: nas_kd.Run) -> None:
    seen = Recorder()
    again = tiny_search(run_dir, teacher, callbacks=[seen])
    assert seen.resumed == [True]
    assert seen.notes[-1] == "this run is finished; to search on, choose another run folder"
    assert (again.trials, again.record.finalists) == (run.trials, run.record.finalists)


def test_a_run_folder_may_move_and_more_trials_be_asked_for(teacher: Net, run_dir: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(run_dir, moved)
    run = tiny_search(moved, teacher, trials=5, options={"engine.threads": 2})
    assert (run.name, run.state) == ("demo", "finished")


class OtherSpace(TinySpace):
    name = "other"


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"teacher": net(12)}, "teacher.factory"),
        ({"data": splits() | {"val": splits()["test"]}}, "data.source"),
        ({"space": TinySpace(12)}, "space.name"),
        ({"space": OtherSpace}, "space.name"),
        ({"methods": LogitMatching}, "distill.methods"),
        ({"device": "cpu-1t"}, "device.name"),
        ({"budget": {"max_size_kb": 50}}, "budget.max_latency_ms"),
        ({"seed": 1}, "search.seed"),
        ({"options": {"distill.epochs": 3}}, "distill.epochs"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_another_call_on_the_same_folder(changes: dict[str, Any], key: str, teacher: Net, run_dir: Path) -> None:
    with pytest.raises(nas_kd.InputError) as caught:
        tiny_search(run_dir, teacher, **changes)
    assert str(caught.value) == (
        f"{run_dir}: holds a run with another config (differs in {key}); "
        "use the same config to resume it, or another --run-dir"
    )


def test_a_stop_before_the_teacher_is_ready(teacher: Net, tmp_path: Path) -> None:
    class StopAtOnce(nas_kd.Callback):
        def on_stage(self, text: str) -> None:
            raise nas_kd.StopRun("too early")

    with pytest.raises(
        nas_kd.InputError, match=r"stopped \(too early\) before the teacher was ready; the same call goes"
    ):
        tiny_search(tmp_path / "run", teacher, callbacks=[StopAtOnce()])


def test_a_stop_in_a_training_and_among_the_finalists(teacher: Net, measured: Path) -> None:
    class StopAt(nas_kd.Callback):
        def __init__(self, hook: str) -> None:
            setattr(self, hook, self.stop)

        def stop(self, *event: Any) -> None:
            raise nas_kd.StopRun("enough")

    found = [tiny_search(measured, teacher, callbacks=[StopAt(hook)]) for hook in ("on_epoch_end", "on_finalist")]
    assert [(run.state, [t.status for t in run.trials]) for run in found] == [
        ("searching", []),
        ("finalists", ["finished"] * 3),
    ]
    assert tiny_search(measured, teacher).state == "finished"


def test_a_budget_out_of_reach(teacher: Net, measured: Path) -> None:
    for _ in range(2):
        with pytest.raises(
            nas_kd.BudgetError, match=r"^no candidate can meet the budget; closest: the smallest network "
        ):
            tiny_search(measured, teacher, budget=nas_kd.Budget(max_size_kb=0.1))
    run = nas_kd.load_run(measured)
    assert (run.state, run.winner, len(run.trials)) == ("unreachable", None, 0)
    assert "no candidate can meet the budget" in (run.folder.report / "report.md").read_text(encoding="utf-8")
    with pytest.raises(nas_kd.InputError, match="no finalist yet"):
        run.export(measured / "a.onnx")
