"""A search that mixes samples, with label smoothing as a control of its finalist, and its report."""

import json
import re
import shutil
from pathlib import Path

import optuna
import pytest
from optuna.samplers import RandomSampler
from typer.testing import CliRunner

from nas_kd.cli.app import app
from nas_kd.commands.search import search
from nas_kd.config.options import SearchConfig
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.nas.propose import Proposer
from nas_kd.nas.recipe_dimensions import RecipeDimensions
from nas_kd.results.run_record import RunRecord
from nas_kd.results.training_recipe import MIXES
from tests.small_runs import open_context, small_config

pytestmark = [pytest.mark.usefixtures("brief_measurements"), pytest.mark.xdist_group("mixing")]


def config() -> SearchConfig:
    return small_config(
        distill={"methods": ["soft_targets"], "mix": "mixup", "epochs": 2},
        chain={"max_assistants": 0},
        search={"trials": 2, "rungs": 1, "recipe": ["mix"]},
        finalists={"max": 1, "seeds": 2, "controls": "all"},
    )


@pytest.fixture(scope="module")
def whole(teachers_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunRecord]:
    folder = tmp_path_factory.mktemp("mixing") / "run"
    shutil.copytree(teachers_dir / "store", folder / "store")
    return folder, search(config(), folder)


def test_students_are_trained_on_mixed_samples_and_the_teacher_is_not(whole: tuple[Path, RunRecord]) -> None:
    _, run = whole
    assert run.recipe is not None
    assert run.recipe.recipe.mix == "mixup"
    assert run.teacher is not None
    assert run.teacher.recipe is not None
    assert run.teacher.recipe.recipe.mix == "none"
    assert all(t.candidate.recipe.training == {} for t in run.trials)  # the first ones have the run's own recipe


def test_the_search_may_propose_each_way_of_mixing(tmp_path: Path) -> None:
    context = open_context(config(), tmp_path)
    builder = NetworkBuilder(context.data, context.space)
    proposer = Proposer(context.config, context.space, builder, 10**6, RecipeDimensions.of(context))
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    drawn = {str(proposer.candidate(study.ask()).recipe.training.get("mix", "mixup")) for _ in range(20)}
    assert drawn == set(MIXES)
    (first,) = proposer.direct_trials([context.space.size_ladder(3)[0]])
    assert first["recipe.mix"] == "mixup"


def test_the_finalist_has_label_smoothing_beside_the_other_controls(whole: tuple[Path, RunRecord]) -> None:
    folder, run = whole
    (finalist,) = run.finalists
    assert [c.kind for c in finalist.controls] == ["no_distillation", "label_smoothing"]
    plain, smoothed = finalist.controls
    assert plain.cost_ratio == smoothed.cost_ratio
    assert [s.epochs for s in plain.seeds] == [s.epochs for s in smoothed.seeds]
    assert {s.sha256 for s in plain.seeds}.isdisjoint(s.sha256 for s in smoothed.seeds)
    (candidate,) = json.loads((folder / "front.json").read_text())["candidates"]
    assert candidate["controls"].keys() == {"no_distillation", "label_smoothing"}
    assert candidate["controls"]["label_smoothing"].keys() == candidate["controls"]["no_distillation"].keys()


def test_the_report_says_how_samples_were_mixed_and_whether_smoothing_was_beaten(
    whole: tuple[Path, RunRecord], tmp_path: Path
) -> None:
    result = CliRunner().invoke(app, ["report", str(whole[0]), "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    text = (tmp_path / "report.md").read_text().replace("\u00a0", " ")
    assert "mixup: each sample is averaged with another" in text
    assert re.search(r"Given: [a-z, ]*mixing", text)
    assert "The search varied mixing" in text
    assert "Distilled, against the same student with label smoothing" in text
    assert re.search(r"label smoothing, which needs no teacher[^.]* \([^)]+\)? ?[^.]*points\)\.", text)
    assert "Gain over label smoothing" in text
    assert "final.label_smoothing.gain.low" in (tmp_path / "candidates.csv").read_text().splitlines()[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("distill.mix=blend", "distill.mix must be 'none', 'mixup' or 'cutmix', got 'blend'"),
        ("finalists.controls=some", "finalists.controls: must be true, false or all, got 'some'"),
    ],
)
def test_wrong_options_are_one_line_and_exit_code_2(options: str, message: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["search", "--run-dir", str(tmp_path / "run"), "--set", options])
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
