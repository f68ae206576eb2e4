"""A real search that chooses how candidates are taught: records, report and front.json say how each of them was."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from nas_kd.commands.distill import distill_one
from nas_kd.commands.load_run import read_run
from nas_kd.commands.search import search
from nas_kd.config.options import SearchConfig
from nas_kd.context.callbacks import Callback, StopRun
from nas_kd.context.run_folder import RunFolder
from nas_kd.report import write_report
from nas_kd.results.run_record import RunRecord
from nas_kd.results.teaching import Teaching
from nas_kd.results.trial_record import TrialRecord
from tests.small_runs import MakeOnce, Seed, small_config

pytestmark = [pytest.mark.usefixtures("brief_measurements"), pytest.mark.xdist_group("search teaching")]
FEW_EPOCHS = {"epochs": 3}


def open_teaching(**distill: Any) -> SearchConfig:
    """A short search; all but its first proposals draw how they are taught."""
    ways = {"standardize": [True, False], "progression": ["checkpoints", "stages", "none"]} | distill
    return small_config(
        teacher=FEW_EPOCHS | {"checkpoints": 2},
        distill={"methods": ["soft_targets+similarity", "attention_transfer"], "epochs": 2, **ways},
        chain={"max_assistants": 0},
        budget={"max_size_kb": 1000, "max_latency_ms": 50},
        search={"trials": 4, "rungs": 1, "sampler": "random"},
        finalists={"max": 1, "seeds": 1, "controls": False},
    )


class StopAfter(Callback):
    def __init__(self, trials: int) -> None:
        self._left = trials

    def on_trial_end(self, record: TrialRecord, trials: object, hypervolume: float) -> None:
        self._left -= 1
        if self._left == 0:
            raise StopRun("enough")


@pytest.fixture(scope="module")
def folder(make_once: MakeOnce) -> Path:
    """Of a finished run that was interrupted once."""

    def run(path: Path) -> None:
        with pytest.raises(StopRun):
            search(open_teaching(), path, StopAfter(2))
        search(open_teaching(), path)

    return make_once("taught", run)


@pytest.fixture(scope="module")
def run(folder: Path) -> RunRecord:
    return read_run(RunFolder(folder))


def test_candidates_are_taught_in_several_ways_and_the_record_says_how(run: RunRecord) -> None:
    ways = {t.candidate.recipe.teaching for t in run.trials}
    assert len(run.trials) >= 4
    assert {t.status for t in run.trials} <= {"finished", "duplicate"}
    assert Teaching(standardize=True, progression="checkpoints") in ways  # the first choice of each part
    assert len(ways) > 1
    assert run.teacher is not None
    assert [c.description for c in run.teacher.checkpoints] == ["after epoch 1", "after epoch 2"]


def test_front_json_and_the_report_show_it(run: RunRecord, folder: Path, tmp_path: Path) -> None:
    front = json.loads((folder / "front.json").read_text())
    by_id = {c["id"]: c for c in front["candidates"]}
    assert by_id
    for finalist in run.finalists:
        teaching = finalist.candidate.recipe.teaching
        assert by_id[finalist.id].get("teaching", {}) == teaching.to_json()
    report = write_report(run, tmp_path)
    page, text = (Path(report).parent / name for name in ("index.html", "report.md"))
    taught = next(f.candidate.recipe.teaching for f in run.finalists if not f.candidate.recipe.teaching.is_default)
    assert taught.describe() in page.read_text()
    assert "Checkpoints of the teacher" in page.read_text()
    assert "1: after epoch 1, " in text.read_text()
    rows = list(csv.DictReader(io.StringIO((tmp_path / "candidates.csv").read_text())))
    shown = {(row["teaching.standardize"], row["teaching.progression"]) for row in rows}
    ways = [t.candidate.recipe.teaching.to_json() for t in run.trials]
    assert shown == {(str(w.get("standardize", "")), str(w.get("progression", ""))) for w in ways}


class Notes(Callback):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def on_note(self, text: str) -> None:
        self.notes.append(text)


def test_one_student_is_taught_by_the_checkpoint_that_the_config_names(tmp_path: Path) -> None:
    options = {"methods": ["dkd"], "epochs": 2, "standardize": [True, False], "checkpoint": 1}
    config = small_config(teacher=FEW_EPOCHS | {"checkpoints": 2}, distill=options)
    notes = Notes()
    done = distill_one(config, tmp_path / "run", notes)
    assert done.method == "dkd, standardised logits, checkpoint 1 of the teacher"
    card = json.loads((tmp_path / "run/card.json").read_text())
    assert card["candidate"]["teaching"] == {"standardize": True, "checkpoint": 1}
    assert "Taught with: standardised logits, checkpoint 1 of the teacher" in (tmp_path / "run/README.md").read_text()
    assert not [n for n in notes.notes if "of no use" in n]


def test_a_student_whose_method_cannot_use_an_option_is_told_so(with_teachers: Seed, tmp_path: Path) -> None:
    config = small_config(distill={"methods": ["rkd", "dkd"], "epochs": 1, "standardize": True})
    notes = Notes()
    distill_one(config, with_teachers(tmp_path / "run"), notes)
    card = json.loads((tmp_path / "run/card.json").read_text())
    assert "teaching" not in card["candidate"]
    assert [n for n in notes.notes if n == "of no use to method rkd, and left out: standardised logits"]
