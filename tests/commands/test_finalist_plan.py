"""How many finalists, seeds and controls a run trains: what its config asks for, within a share of its training."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_kd.commands.finalist_plan import FinalistCost, describe_plan, plan_finalists, reductions
from nas_kd.commands.training_costs import search_cost, student_cost, supernet_cost, teachers_cost
from nas_kd.config.options import FinalistOptions, TeacherOptions
from nas_kd.context.run_context import RunContext
from nas_kd.kd.controls import training_cost
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.kd.training_work import STEP_WORK, TrainingWork
from nas_kd.results.candidate import Candidate
from nas_kd.results.finalist_record import FinalistPlan
from nas_kd.results.trial_record import RungRecord, TrialRecord
from tests import records
from tests.small_runs import candidate_of, open_context, small_config

FULL = 10  # epochs
ALIKE = FinalistCost(10.0, ((1.0, 30),))  # an epoch of it costs 1, its control is wanted for three times as many
LEAST = 2 * (10 + 10)  # one finalist and its control, two seeds


def planned(cost_before: float, finalists: int = 4, one: FinalistCost = ALIKE, **options: Any) -> FinalistPlan:
    return plan_finalists([one] * finalists, cost_before, FinalistOptions.model_validate(options), FULL)


def numbers(plan: FinalistPlan) -> tuple[int, int, int, int]:
    return plan.control_epochs, plan.finalists, plan.controlled, plan.seeds


@pytest.mark.parametrize(
    ("within", "expected", "reduced"),
    [
        (3 * 4 * (10 + 30), (30, 4, 4, 3), []),
        (3 * 4 * (10 + 30) - 1, (29, 4, 4, 3), ["at most 29 instead of 30 epochs for a control"]),
        (3 * 4 * (10 + 10), (10, 4, 4, 3), ["at most 10 instead of 30 epochs for a control"]),
        (3 * 4 * (10 + 10) - 1, (10, 3, 3, 3), ["3 of 4 finalists", "at most 10 instead of 30 epochs for a control"]),
        (3 * 2 * (10 + 10), (10, 2, 2, 3), ["2 of 4 finalists"]),
        (3 * 2 * (10 + 10) - 1, (10, 2, 1, 3), ["2 of 4 finalists", "controls of the first finalist alone"]),
        (3 * (10 + 10 + 10) - 1, (10, 2, 1, 2), ["2 of 4 finalists", "2 of 3 seeds"]),
        (2 * (10 + 10 + 10) - 1, (10, 1, 1, 2), ["1 of 4 finalists", "2 of 3 seeds"]),
        (LEAST, (10, 1, 1, 2), ["1 of 4 finalists", "2 of 3 seeds"]),
        (1, (10, 1, 1, 2), ["1 of 4 finalists", "2 of 3 seeds"]),
    ],
)
def test_what_is_missed_least_is_given_up_first(
    within: float, expected: tuple[int, int, int, int], reduced: list[str]
) -> None:
    """A share of a third of the run is half of what was spent before."""
    plan = planned(2 * within)
    assert numbers(plan) == expected
    assert set(reduced) <= set(plan.reductions)
    assert bool(plan.reductions) == bool(reduced)
    assert (plan.share <= 1 / 3 + 1e-12) == (within >= LEAST)


def test_a_share_of_one_is_no_limit_and_options_bound_the_plan() -> None:
    assert numbers(planned(1.0, max_share=1)) == (30, 4, 4, 3)
    assert planned(1.0, max_share=1).reductions == ()
    assert numbers(planned(1.0, seeds=1, finalists=1)) == (10, 1, 1, 1)  # no more seeds than asked for
    assert numbers(planned(1.0, one=FinalistCost(10.0, ())))[1:] == (1, 0, 2)
    half = planned(3 * 4 * 40, max_share=0.5)
    assert (numbers(half), half.share) == ((30, 4, 4, 3), 0.5)


@given(
    st.lists(st.builds(FinalistCost, st.floats(1, 100), st.just(((1.0, 25),)) | st.just(())), min_size=1, max_size=6),
    st.integers(1, 5),
    st.floats(0.01, 1),
    st.floats(0, 1e5),
)
def test_a_plan_is_the_first_that_fits_and_never_below_the_least(
    finalists: list[FinalistCost], seeds: int, max_share: float, before: float
) -> None:
    plan = plan_finalists(finalists, before, FinalistOptions(seeds=seeds, max_share=max_share), FULL)
    assert 1 <= plan.finalists <= len(finalists)
    assert min(seeds, 2) <= plan.seeds <= seeds
    assert plan.control_epochs >= FULL
    assert plan.controlled <= plan.finalists
    assert plan.controlled >= bool(any(f.controls for f in finalists))
    if plan.share > max_share:
        assert numbers(plan) == numbers(list(reductions(plan, FULL))[-1])
    dearer = plan_finalists(finalists, before + 1000, FinalistOptions(seeds=seeds, max_share=max_share), FULL)
    assert all(more >= less for more, less in zip(numbers(dearer), numbers(plan), strict=True))


def test_a_note_says_what_is_left_out_and_how_to_have_it() -> None:
    assert describe_plan(planned(1e6)) == ""
    note = describe_plan(planned(2 * 3 * 2 * 20))
    assert note.startswith(
        "finalists and controls take 33% of the run's training, at most finalists.max_share = 0.333:"
    )
    assert "2 of 4 finalists, at most 10 instead of 30 epochs for a control" in note
    assert note.endswith("finalists.max_share = 1 trains all")
    assert "more than finalists.max_share = 0.333 even so" in describe_plan(planned(1.0))


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> RunContext:
    return open_context(small_config(), tmp_path_factory.mktemp("plan"))


@pytest.fixture(scope="module")
def builder(context: RunContext) -> NetworkBuilder:
    return NetworkBuilder(context.data, context.space)


def trial(candidate: Candidate, *rungs: int, without: int = 0, **other: Any) -> TrialRecord:
    """One that reached these epochs, the first `without` of them without its assistants."""
    reached = tuple(
        RungRecord(epochs=e, val_accuracy=0.5, seconds=1, without_assistants=n < without) for n, e in enumerate(rungs)
    )
    return records.trial(7, 0.5, 4000, 0.1, candidate=candidate, rungs=reached, **other)


def test_a_search_costs_its_students_epochs_and_each_chain_once(context: RunContext, builder: NetworkBuilder) -> None:
    direct, chained, longer = (candidate_of(context, "soft_targets", n) for n in (0, 1, 2))
    student, first = builder.macs(direct.student), builder.macs(chained.assistants[0])

    def cost(*trials: TrialRecord) -> float:
        return search_cost(trials, builder, FULL)

    assert cost(trial(direct, 2, 5)) == 5 * student
    assert cost(trial(direct, 2, 5), trial(direct, 2, 5, status="duplicate", duplicate_of=7)) == 5 * student
    assert cost(trial(direct, status="infeasible")) == 0
    assert cost(trial(chained, 2, without=1, status="pruned")) == 2 * student
    promoted = trial(chained, 2, 5, without=1)
    assert cost(promoted) == (2 + 5) * student + FULL * first
    assert cost(promoted, promoted) == 2 * (2 + 5) * student + FULL * first
    assert cost(trial(longer, 10)) == 10 * student + FULL * sum(map(builder.macs, longer.assistants))
    summed = candidate_of(context, "soft_targets", 1, policy="residual")
    assert cost(trial(summed, 2, 5)) == 5 * (student + first)


def test_a_finalist_costs_its_seeds_not_its_assistants(context: RunContext, builder: NetworkBuilder) -> None:
    chained, options = candidate_of(context, "dkd", 1), FinalistOptions(max_control_epochs=2)
    work = TrainingWork(builder, 64)
    student, assistant = work.macs(chained.student), work.macs(chained.assistants[0])
    assert student == builder.macs(chained.student) + STEP_WORK / 64
    cost = FinalistCost.of(chained, options, work, FULL)
    equal = training_cost(chained, builder, FULL, FULL) / builder.macs(chained.student)  # in multiply-adds alone
    wanted = min(2 * FULL, round(equal))
    assert (cost.own, cost.controls) == (FULL * student, ((student, wanted), (student, wanted)))
    assert wanted > FULL
    assert cost.of_controls(FULL) == 2 * FULL * student
    assert FinalistCost.of(chained, FinalistOptions(controls=False), work, FULL).controls == ()
    summed = candidate_of(context, "dkd", 1, policy="residual")
    assert student_cost(summed, work, FULL, FULL) == FULL * (student + assistant)


def test_teachers_of_the_tools_own_and_elastic_networks_count(context: RunContext, builder: NetworkBuilder) -> None:
    own, longer = TeacherOptions(space="resnet"), TeacherOptions(space="resnet", epochs=3)
    given = TeacherOptions(onnx=Path("teacher.onnx"))
    assert teachers_cost([(own, 100), (longer, 1000), (given, 10_000)], FULL) == FULL * 100 + 3 * 1000
    smallest, middle, largest = context.space.size_ladder(3)
    macs = [builder.macs(a) for a in (smallest, largest, middle, middle)]
    assert supernet_cost(5, 4, [smallest, largest], [middle], builder) == 5 * sum(macs)


def test_under_a_time_limit_costs_are_seconds() -> None:
    """Controls keep their cost beside the finalist's; half of the minutes is a third of the whole."""
    timed = ALIKE.timed(60.0)
    assert (timed.own, timed.of_controls(30), timed.of_controls(10)) == pytest.approx((60, 180, 60))
    enough = planned(2 * 3 * 4 * (60 + 60), one=timed)
    assert (enough.finalists, enough.seeds, enough.share) == (4, 3, pytest.approx(1 / 3))
    assert planned(60 * 20, one=timed).finalists == 2


def test_an_epoch_s_seconds_are_those_of_the_latest_start() -> None:
    first = RungRecord(epochs=2, val_accuracy=0.5, val_score=0.5, seconds=6.0, without_assistants=True)
    second, third = (
        RungRecord(epochs=e, val_accuracy=0.5, val_score=0.5, seconds=s) for e, s in ((6, 30.0), (8, 10.0))
    )
    trial = records.trial(0, None, 1000, 1.0)
    assert trial.model_copy(update={"rungs": (first,)}).epoch_s == 3
    assert trial.model_copy(update={"rungs": (first, second, third)}).epoch_s == 5
    assert trial.model_copy(update={"rungs": ()}).epoch_s == 0
