"""What a search is estimated to take: its plan added up with made-up times of single steps."""

from pathlib import Path
from typing import Any

import pytest

from nas_kd.commands.step_timing import StepTimes
from nas_kd.commands.time_estimate import SearchCostModel, Span
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.nas.search_plan import N_INITIAL_TRIALS, SearchPlan, probe_epochs
from nas_kd.results.trial_record import Costs
from tests.records import costs
from tests.small_runs import open_context, small_config

ONE_SECOND = StepTimes(((1, 1.0), (1, 1.0)), {}, outputs_s=0.0, begin_s=0.0, judge_s=0.0)  # whatever is trained
EPOCHS, BATCH = 9, 64


class Estimate:
    """A search of this many trials whose every training step takes a second; all networks fit."""

    def __init__(self, folder: Path, trials: int, **sections: Any) -> None:
        search = {"trials": trials, "rungs": 3, "reduction": 3, **sections.pop("search", {})}
        distill = {"methods": ["soft_targets"], "epochs": EPOCHS, "batch_size": BATCH, **sections.pop("distill", {})}
        config = small_config(search=search, distill=distill, budget={"max_size_kb": None}, **sections)
        self.context = open_context(config, folder)
        self.steps = self.context.steps_per_epoch
        self.plan = SearchPlan.of(config, EPOCHS, self.steps)
        builder = NetworkBuilder(self.context.data, self.context.space)
        measured: dict[Any, Costs] = {
            a: costs(1000 * (n + 1), 0.1) for n, a in enumerate(self.context.space.size_ladder(4))
        }
        model = SearchCostModel(self.context, builder, ONE_SECOND, 0.0, 10**9)
        self.parts: dict[str, Span] = model.parts(measured, [10**6])

    def epochs(self, part: str) -> tuple[float, float]:
        """Of training, least and most."""
        low, high = self.parts[part]
        return low / self.steps, high / self.steps


def test_students_that_start_again_and_assistants_of_the_promoted_are_counted(tmp_path: Path) -> None:
    trials = 24
    many_sizes = {"assistant_sizes": 8}
    rungs = Estimate(tmp_path / "rungs", trials, chain=many_sizes)
    assert rungs.plan.rungs == (1, 3, 9)
    without = Estimate(tmp_path / "direct", trials, chain={"max_assistants": 0})
    assert without.epochs("assistants") == (0, 0)
    assert without.epochs("candidates")[1] == pytest.approx(rungs.plan.epochs(trials)[0])
    restarts = rungs.epochs("candidates")[1] - without.epochs("candidates")[1]
    assert 0 < restarts <= rungs.plan.promoted(trials) - N_INITIAL_TRIALS  # an epoch each, if they have assistants
    one_rung = Estimate(tmp_path / "one", trials, chain=many_sizes, search={"rungs": 1})
    assert one_rung.epochs("candidates")[1] == pytest.approx(trials * EPOCHS)
    assert 0 < rungs.epochs("assistants")[1] < one_rung.epochs("assistants")[1]


def test_finalists_take_no_more_than_their_share(tmp_path: Path) -> None:
    """A step takes a second whatever is trained, so seconds tell how many trainings there are, if not their share."""
    wanted = {"max": 4, "seeds": 3, "controls": True, "max_control_epochs": 1}
    whole = Estimate(tmp_path / "whole", 12, finalists={**wanted, "max_share": 1}, chain={"max_assistants": 0})
    assert whole.epochs("finalists") == pytest.approx((2 * 3 * 2 * EPOCHS, 4 * 3 * 2 * EPOCHS))
    least = Estimate(tmp_path / "least", 12, finalists={**wanted, "max_share": 0.001}, chain={"max_assistants": 0})
    assert least.epochs("finalists") == pytest.approx((2 * 2 * EPOCHS, 2 * 2 * EPOCHS))


def test_a_recipe_probe_takes_its_share_if_anything_is_left_to_it(tmp_path: Path) -> None:
    none = Estimate(tmp_path / "none", 12)
    assert none.epochs("recipe") == (0, 0)  # distill.probe_minutes = 0
    probed = Estimate(tmp_path / "probed", 12, distill={"probe_minutes": None})
    share = probe_epochs(probed.plan, 1)
    assert probed.epochs("recipe") == pytest.approx((share / 2, share))
    given = {"optimizer": "sgd", "learning_rate": 0.1, "weight_decay": 0.0}
    fixed = {"distill": {"probe_minutes": None, **given}, "data": {"augment": {"strength": "none", "crop": 0}}}
    assert Estimate(tmp_path / "fixed", 12, **fixed).epochs("recipe") == (0, 0)
    limited = Estimate(tmp_path / "limited", 12, distill={"probe_minutes": 0.1})
    assert limited.parts["recipe"] == pytest.approx((3.0, 6.0))


def test_assistants_that_are_deployed_count_with_their_candidates(tmp_path: Path) -> None:
    sequential, residual = (
        Estimate(tmp_path / policy, 12, chain={"policy": [policy]}) for policy in ("sequential", "residual")
    )
    assert residual.epochs("assistants") == (0, 0)
    assert sequential.epochs("assistants")[1] > 0
