"""Proposals: the same after every restart, never the same candidate twice, chains in canonical form."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import FixedTrial

from nas_kd.commands.load_run import read_run
from nas_kd.config.loading import dump_config
from nas_kd.config.options import Budget, SearchConfig
from nas_kd.context.run_folder import RunFolder
from nas_kd.data.prepare import load_dataset
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.models.search_space import SearchSpace, load_space
from nas_kd.nas.feasibility import infeasible_reason, log_excess
from nas_kd.nas.propose import Proposer, propose
from nas_kd.nas.recipe_dimensions import RecipeDimensions
from nas_kd.nas.search_plan import MAX_INITIAL_SIZE_RATIO, N_INITIAL_TRIALS, SearchPlan
from nas_kd.nas.study import INITIAL_TRIALS, RunStudy
from nas_kd.results.candidate import Architecture, Candidate, Choice, Precision, Recipe
from nas_kd.results.latency import Latency
from nas_kd.results.recipe_record import RecipeRecord, SmallStudentsRecord
from nas_kd.results.training_recipe import TrainingRecipe
from nas_kd.results.trial_record import Costs, RungRecord, TrialRecord
from tests.small_runs import (
    few_startup_trials,
    narrow_space,
    small_config,
)

BUDGET = Budget(max_latency_ms=0.05, max_size_kb=60)
FULL = 4


@pytest.fixture(scope="module")
def builder() -> NetworkBuilder:
    return NetworkBuilder(load_dataset(small_config().data, 0), load_space("resnet"))


def costs(size_bytes: int, p50: float) -> Costs:
    latency = Latency(p50=p50, p90=p50, low=p50, high=p50)
    return Costs(size_bytes=size_bytes, latency_ms=latency, parameters=size_bytes // 4, macs=1000)


def judged(number: int, candidate: Candidate, builder: NetworkBuilder) -> TrialRecord:
    """Made-up figures that follow from the candidate alone."""
    weights = builder.parameters(candidate.student)
    spent = costs(4 * weights, 0.005 + weights * 1e-6)
    over = log_excess(spent, BUDGET) > 0
    accuracy = None if over else 0.5 + 0.04 * float(np.log(weights / 500))
    return TrialRecord(
        number=number,
        id=candidate.id,
        candidate=candidate,
        description="",
        status="infeasible" if over else "finished",
        within_budget=not over,
        costs=spent.model_copy(update={"latency_ms": None}) if over else spent,
        val_accuracy=accuracy,
        rungs=() if accuracy is None else (RungRecord(epochs=FULL, val_accuracy=accuracy, seconds=1.0),),
    )


def run(
    folder: Path, config: SearchConfig, builder: NetworkBuilder, reopen: bool, space: SearchSpace | None = None
) -> list[str]:
    """Ids of the candidates proposed; `reopen`: a new process, as it were, before each."""
    place = RunFolder(folder)
    folder.mkdir()
    place.config.write_text(dump_config(config))
    proposer = Proposer(config, space or load_space("resnet"), builder, 400_000)
    study, ids = RunStudy(place, "test", BUDGET, FULL), []
    plan = SearchPlan.of(config, 30, 10)
    study.save(INITIAL_TRIALS, proposer.initial_trials(lambda a, _: builder.parameters(a) < 15_000, plan))
    while study.distinct < config.search.trials:
        proposal = propose(study, proposer, config)
        assert proposal is not None
        ids.append(proposal.candidate.id)
        if reopen and study.distinct % 3 == 1:  # died before the candidate was judged
            study.close()
            study = RunStudy(place, "test", BUDGET, FULL)
            adopted = propose(study, proposer, config)
            assert adopted is not None
            assert adopted.attempts == 2
            assert adopted.candidate == proposal.candidate
            proposal = adopted
        study.tell(judged(proposal.trial.number, proposal.candidate, builder))
    study.close()
    assert len(read_run(place).trials) >= len(ids)
    return ids


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "nsga3", "random", "gp"])
def test_restarts_change_nothing_and_nothing_is_tried_twice(
    sampler: str, builder: NetworkBuilder, tmp_path: Path
) -> None:
    # Asking a Gaussian process takes seconds, the more so the more dimensions there are.
    slow = sampler == "gp"
    trials, space = (7, narrow_space()) if slow else (10, None)
    config = small_config(search={"sampler": sampler, "trials": trials}, chain={"max_assistants": 0 if slow else 2})
    with few_startup_trials(5):
        whole = run(tmp_path / "whole", config, builder, False, space)
        pieces = run(tmp_path / "pieces", config, builder, True, space)
    assert whole == pieces
    assert len(set(whole)) == trials


def test_other_seeds_propose_others(builder: NetworkBuilder, tmp_path: Path) -> None:
    first, second = (
        run(tmp_path / str(seed), small_config(search={"seed": seed, "trials": 9}), builder, reopen=False)
        for seed in (0, 1)
    )
    assert first != second


def test_a_space_of_few_is_exhausted_and_duplicates_get_their_twins_results(
    builder: NetworkBuilder, tmp_path: Path
) -> None:
    config = small_config(chain={"max_assistants": 0}, distill={"methods": ["none"]}, search={"sampler": "random"})
    place = RunFolder(tmp_path)
    place.config.write_text(dump_config(config))
    study = RunStudy(place, "test", BUDGET, FULL)
    space = load_space("resnet")
    proposer = Proposer(config, space, builder, 400_000)
    same = {f"student.{k}": v for k, v in space.size_ladder(2)[0].choices.items()}
    study.save(INITIAL_TRIALS, [{**same, "strength": s} for s in (1.0, 2.0)])  # does not matter to method "none"
    first = propose(study, proposer, config)
    assert first is not None
    study.tell(judged(first.trial.number, first.candidate, builder))
    second = propose(study, proposer, config)
    assert second is not None
    assert second.candidate.id != first.candidate.id
    twin = study.records[1]
    assert (twin.status, twin.duplicate_of) == ("duplicate", first.trial.number)
    assert twin.val_accuracy == study.records[0].val_accuracy
    study.close()


def test_chains_are_largest_first_without_repeats_and_larger_than_the_student(builder: NetworkBuilder) -> None:
    config = small_config(chain={"assistant_sizes": 4})
    proposer = Proposer(config, load_space("resnet"), builder, 400_000)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = set()
    for _ in range(150):
        candidate = proposer.candidate(study.ask())
        sizes = [builder.parameters(a) for a in candidate.assistants]
        assert sizes == sorted(set(sizes), reverse=True)
        assert all(s > builder.parameters(candidate.student) for s in sizes)
        assert candidate.recipe.method != "none" or not (candidate.assistants or candidate.recipe.params)
        seen.add(len(sizes))
    assert seen == {0, 1, 2}


def test_small_students_are_augmented_by_their_own_choice(builder: NetworkBuilder) -> None:
    usual = TrainingRecipe(30, 32, "sgd", 0.1, 5e-4, "standard")
    apart = RecipeRecord(recipe=replace(usual, augment="none"), origin="probe", rules=usual)
    small = SmallStudentsRecord(below_weights=8000, choice=apart)
    recipes = RecipeDimensions((), usual, ("none", "standard"), 640, small=small)
    proposer = Proposer(small_config(), load_space("resnet"), builder, 400_000, recipes)
    study, seen = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)), set[bool]()
    for _ in range(30):
        candidate = proposer.candidate(study.ask())
        is_small = builder.parameters(candidate.student) < 8000
        assert candidate.recipe.training == ({"augment": "none"} if is_small else {})
        seen.add(is_small)
    assert seen == {True, False}


def test_excess_and_reason() -> None:
    assert log_excess(costs(60_000, 0.05), BUDGET) == pytest.approx(0)
    assert log_excess(costs(120_000, 0.01), BUDGET) == pytest.approx(np.log(2))
    assert log_excess(costs(1_000, 0.2), BUDGET) == pytest.approx(np.log(4))
    assert log_excess(costs(1, 1e-9), Budget()) < 0
    assert infeasible_reason(costs(120_000, 0.2), BUDGET) == "120.0 kB > 60 kB and 0.2 ms > 0.05 ms"


class First:
    """The first proposals of a config, where networks of fewer weights than a limit fit."""

    def __init__(
        self,
        builder: NetworkBuilder,
        limits: Mapping[Precision, int],
        space: SearchSpace | None = None,
        **sections: Any,
    ) -> None:
        self.space = space or load_space("resnet")
        self.config = small_config(search={"precisions": tuple(limits)}, **sections)
        self.proposer = Proposer(self.config, self.space, builder, 10**9)
        plan = SearchPlan.of(self.config, 30, 10)
        self.proposals = self.proposer.initial_trials(lambda a, p: builder.parameters(a) < limits[p], plan)
        self.weights = [builder.parameters(self._student(proposal)) for proposal in self.proposals]
        path = self.space.size_ladder(plan.n_edge_sizes)
        self.edges = {
            p: max(w for w in map(builder.parameters, path) if w < limit) for p, limit in limits.items()
        }  # of networks that the edge is looked for among

    def _student(self, proposal: Mapping[str, Choice]) -> Architecture:
        choices = {k.removeprefix("student."): v for k, v in proposal.items() if k.startswith("student.")}
        return Architecture(self.space.name, choices)


def test_the_first_proposal_is_the_largest_that_fits_straight_from_the_teacher(builder: NetworkBuilder) -> None:
    methods = ["dkd", "soft_targets"]
    first = First(builder, {"fp32": 20_000}, distill={"methods": methods, "temperature": (5.0, 8.0)})
    assert len(first.proposals) == N_INITIAL_TRIALS
    assert first.weights[0] == first.edges["fp32"]
    candidate = first.proposer.candidate(
        FixedTrial({**first.proposals[0], "policy": "sequential", "precision": "fp32"})
    )
    assert candidate.assistants == ()
    assert candidate.recipe == Recipe("dkd", {"temperature": 5.0, "strength": 1.0})  # as near 4 as the range allows
    assert all("method" not in proposal for proposal in first.proposals[1:])
    assert all(proposal["assistant.1"] == proposal["assistant.2"] == "none" for proposal in first.proposals)


def test_the_first_proposals_go_down_evenly_to_the_smallest_useful_size(builder: NetworkBuilder) -> None:
    first = First(builder, {"fp32": 100_000})
    largest, smallest = first.weights[0], first.weights[-1]
    assert first.weights == sorted(set(first.weights), reverse=True)
    assert largest / MAX_INITIAL_SIZE_RATIO <= smallest < 1.5 * largest / MAX_INITIAL_SIZE_RATIO
    steps = [before / after for before, after in pairwise(first.weights)]
    assert max(steps) < 2 * min(steps)
    assert builder.parameters(first.space.size_ladder(2)[0]) < smallest / 2  # which would be no use


def test_where_few_sizes_fit_some_are_proposed_twice(builder: NetworkBuilder) -> None:
    three = First(builder, {"fp32": 1_500})
    assert three.weights == sorted(three.weights, reverse=True)
    assert 1 < len(set(three.weights)) < N_INITIAL_TRIALS
    smallest = builder.parameters(three.space.size_ladder(2)[0])
    assert three.weights[-1] == smallest
    only = First(builder, {"fp32": smallest + 1})
    assert only.weights == [smallest] * N_INITIAL_TRIALS


def test_first_proposals_take_turns_down_from_the_edge_of_each_precision(builder: NetworkBuilder) -> None:
    several = First(builder, {"fp32": 20_000, "int8": 5_000})
    assert [p["precision"] for p in several.proposals] == ["fp32", "int8"] * 3
    weights = {
        p: [w for w, q in zip(several.weights, several.proposals, strict=True) if q["precision"] == p]
        for p in several.edges
    }
    assert weights["fp32"][0] == several.edges["fp32"]
    assert several.edges["int8"] / 3 < weights["int8"][0] < 5_000
    assert all(len(set(w)) == 3 and w == sorted(w, reverse=True) for w in weights.values())
    assert all("precision" not in p for p in First(builder, {"int8": 5_000}).proposals)
