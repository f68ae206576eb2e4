"""A search whose training recipe is fitted to its data: found before the first proposal, the same on every start."""

from pathlib import Path

import pytest

from nas_kd.commands.search import search
from nas_kd.config.options import SearchConfig
from nas_kd.context.callbacks import Callback, EpochEnd, StopRun
from nas_kd.results.run_record import RunRecord
from tests.small_runs import Seed, small_config

pytestmark = [pytest.mark.usefixtures("brief_measurements"), pytest.mark.xdist_group("search recipe")]


def open_recipe(workers: int = 1, **search_options: object) -> SearchConfig:
    """A short search that fits what it may."""
    return small_config(
        distill={"methods": ["soft_targets", "none"], "batch_size": None, "probe_minutes": 5},
        data={"augment": {}},
        search={"trials": 3, "rungs": 1, "workers": workers, **search_options},
        finalists={"max": 1, "seeds": 1, "controls": False},
    )


class Stages(Callback):
    """Notes stages and notes; stops after this many epochs of training that follow a stage."""

    def __init__(self, stop_in: str = "", after: int = 0) -> None:
        self.stages: list[str] = []
        self.notes: list[str] = []
        self._stop_in, self._left = stop_in, after

    def on_stage(self, text: str) -> None:
        self.stages.append(text)

    def on_note(self, text: str) -> None:
        self.notes.append(text)

    def on_epoch_end(self, event: EpochEnd) -> None:
        if self._stop_in in self.stages:
            self._left -= 1
            if self._left == 0:
                raise StopRun("enough")


def outcome(run: RunRecord) -> list[tuple[object, ...]]:
    return [(t.number, t.id, t.status, t.val_accuracy, [r.val_accuracy for r in t.rungs]) for t in run.trials]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunRecord, Stages]:
    folder, stages = tmp_path_factory.mktemp("recipe") / "run", Stages()
    return folder, search(open_recipe(), folder, stages), stages


def test_the_recipe_is_found_before_the_first_proposal_and_recorded(whole: tuple[Path, RunRecord, Stages]) -> None:
    _, run, stages = whole
    assert run.recipe is not None
    assert run.recipe.origin == "probe"
    assert run.recipe.rules.batch_size == 16
    assert run.recipe.recipe.augment == "none"  # so few epochs are too few for shifts
    assert [n for n in stages.notes if n.startswith("training recipe: ")]
    assert stages.stages.count("trying training recipes") == 1
    assert run.teacher is not None
    assert run.teacher.recipe is not None
    assert run.teacher.recipe.origin == "rules"  # its training is too short for a probe of its own
    assert run.teacher.recipe.note is not None
    assert run.teacher.recipe.recipe.augment != "none"
    assert run.seconds["recipe"] > 0
    assert outcome(run)


def test_interrupted_while_trying_recipes_it_ends_like_an_uninterrupted_run(
    whole: tuple[Path, RunRecord, Stages], tmp_path: Path
) -> None:
    _, expected, _ = whole
    with pytest.raises(StopRun):
        search(open_recipe(), tmp_path / "run", Stages("trying training recipes", after=5))
    run = search(open_recipe(), tmp_path / "run")
    assert run.recipe is not None
    assert expected.recipe is not None
    assert run.recipe.recipe == expected.recipe.recipe
    assert run.recipe.gain == expected.recipe.gain
    assert outcome(run) == outcome(expected)


def test_workers_train_by_the_recipe_that_was_found(whole: tuple[Path, RunRecord, Stages], tmp_path: Path) -> None:
    _, expected, _ = whole
    run = search(open_recipe(workers=2), tmp_path / "run")
    assert run.recipe is not None
    assert expected.recipe is not None
    assert run.recipe.recipe == expected.recipe.recipe
    accuracies = {t.id: t.val_accuracy for t in expected.trials}
    shared = [t for t in run.trials if t.id in accuracies]
    assert shared
    assert all(t.val_accuracy == accuracies[t.id] for t in shared)


def test_candidates_and_finalists_have_recipes_of_their_own(with_teachers: Seed, tmp_path: Path) -> None:
    config = small_config(
        distill={"methods": ["none"], "learning_rate": 0.1},
        search={"trials": 9, "rungs": 1, "recipe": ["batch_size", "learning_rate", "optimizer"]},
        finalists={"max": 2, "seeds": 1, "controls": False},
    )
    run = search(config, with_teachers(tmp_path / "run"))
    trained = [t for t in run.trials if t.status == "finished"]
    assert all(t.candidate.recipe.training == {} for t in trained if t.number < 6)  # sizes first
    others = [t.candidate.recipe.training for t in run.trials if t.number >= 6]
    assert any(others)
    assert set().union(*others) <= {"batch_size", "learning_rate", "optimizer", "weight_decay"}
    for finalist in run.finalists:
        proposed = next(t for t in run.trials if t.id == finalist.id)
        assert finalist.candidate.recipe == proposed.candidate.recipe
