"""Schedules become shorter where the time of a run would not do for several candidates."""

from math import inf
from pathlib import Path

import pytest

from nas_kd.commands.schedule_length import with_affordable_schedule
from nas_kd.context.callbacks import Callback
from nas_kd.context.run_context import RunContext
from nas_kd.context.run_folder import RunFolder
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.nas.search_plan import FEWEST_EPOCHS, N_FULL_TRAININGS, EpochTimes, epochs_within
from tests.small_runs import small_config, untrained_teacher


class Notes(Callback):
    """Keeps notes to the user."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def on_note(self, text: str) -> None:
        self.texts.append(text)


def limited(tmp_path: Path, left_s: float, epochs: int | None = None) -> tuple[int, int, list[str]]:
    """Epochs before and after, and what was said."""
    notes = Notes()
    config = small_config(distill={"methods": ["soft_targets"], "epochs": epochs, "batch_size": 64})
    context = RunContext.prepare(config, RunFolder(tmp_path), notes)
    builder = NetworkBuilder(context.data, context.space)
    found = with_affordable_schedule(
        context,
        builder,
        [untrained_teacher(context, 0)],
        network=lambda: context.space.size_ladder(6)[1],
        left_s=left_s,
        workers=1,
    )
    assert list((tmp_path / "store").rglob("*.safetensors")) == []  # what is timed is not kept
    return context.recipe.epochs, found.recipe.epochs, notes.texts


def test_too_little_time_makes_schedules_short_and_says_so(tmp_path: Path) -> None:
    before, after, notes = limited(tmp_path, 0.01)
    assert before > after == FEWEST_EPOCHS
    assert f"schedules have {FEWEST_EPOCHS} epochs" in notes[-1]
    assert "distill.epochs sets them" in notes[-1]


@pytest.mark.parametrize(("left_s", "epochs"), [(inf, None), (1e6, None), (0.01, 40)])
def test_enough_time_and_given_epochs_change_nothing(tmp_path: Path, left_s: float, epochs: int | None) -> None:
    before, after, notes = limited(tmp_path, left_s, epochs)
    assert after == before
    assert not any("schedules have" in note for note in notes)


def test_time_is_shared_by_what_a_search_begins_with() -> None:
    times = EpochTimes(training_s=1.0, outputs_s=2.0)
    left_s = 10 * (2 + N_FULL_TRAININGS) / 0.9
    assert epochs_within(30, left_s + 1e-6, times, workers=1) == 10
    assert epochs_within(8, left_s, times, workers=1) == 8
    assert epochs_within(30, left_s, times, workers=2) == int(10 * (2 + N_FULL_TRAININGS) / (2 + N_FULL_TRAININGS / 2))
    assert epochs_within(30, -5.0, times, workers=1) == FEWEST_EPOCHS
    assert epochs_within(2, -5.0, times, workers=1) == 2
