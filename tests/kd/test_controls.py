"""What trainings cost, and the controls that are trained at the same cost."""

from dataclasses import replace

import pytest

from nas_kd.config.options import FinalistOptions
from nas_kd.context.run_context import RunContext
from nas_kd.kd.controls import controls_of, training_cost
from nas_kd.kd.network_builder import NetworkBuilder
from tests.small_runs import (
    candidate_of,
    open_context,
    small_config,
)

CAPPED = FinalistOptions(max_control_epochs=1.5)


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> RunContext:
    return open_context(small_config(), tmp_path_factory.mktemp("controls"))


@pytest.fixture(scope="module")
def builder(context: RunContext) -> NetworkBuilder:
    return NetworkBuilder(context.data, context.space)


def test_costs_of_training_count_peers_generations_and_assistants(context: RunContext, builder: NetworkBuilder) -> None:
    macs = builder.macs(candidate_of(context, "none", 0).student)
    assert training_cost(candidate_of(context, "none", 0), builder, 4, 2) == 4 * macs
    assert training_cost(candidate_of(context, "dml", 0), builder, 4, 2) == 3 * 4 * macs
    assert training_cost(candidate_of(context, "born_again", 0), builder, 4, 2) == (4 + 2 * 2) * macs
    chained = candidate_of(context, "soft_targets", 1)
    assistant = builder.macs(chained.assistants[0])
    assert training_cost(chained, builder, 4, 2) == 4 * macs + 2 * assistant
    summed = replace(chained, policy="residual")
    assert training_cost(summed, builder, 4, 2) == 4 * macs + 4 * assistant


def test_controls_are_trained_at_the_same_cost_up_to_a_cap(context: RunContext, builder: NetworkBuilder) -> None:
    plain, direct = controls_of(candidate_of(context, "dkd", 1, policy="residual"), builder, 2, CAPPED)
    assert (plain.kind, plain.candidate.policy, plain.epochs, plain.cost_ratio) == ("no_distillation", "residual", 2, 1)
    assert (direct.kind, direct.candidate.policy, direct.epochs) == ("no_assistants", "sequential", 3)
    assert direct.cost_ratio < 1
    assert [c.kind for c in controls_of(candidate_of(context, "dkd", 0), builder, 2, CAPPED)] == ["no_distillation"]
    assert controls_of(candidate_of(context, "none", 0), builder, 2, CAPPED) == []


def test_label_smoothing_is_a_control_that_is_asked_for(context: RunContext, builder: NetworkBuilder) -> None:
    everything = CAPPED.model_copy(update={"controls": "all"})
    direct = candidate_of(context, "dkd", 0)
    own = replace(direct, recipe=replace(direct.recipe, training={"batch_size": 32, "mix": "mixup"}))
    plain, smoothed = controls_of(own, builder, 2, everything)
    assert (smoothed.kind, smoothed.candidate.recipe.method) == ("label_smoothing", "label_smoothing")
    assert smoothed.candidate.recipe.training == plain.candidate.recipe.training == own.recipe.training
    assert (smoothed.epochs, smoothed.cost_ratio) == (plain.epochs, plain.cost_ratio)
    chained = controls_of(candidate_of(context, "dkd", 1, policy="residual"), builder, 2, everything)
    assert [c.kind for c in chained] == ["no_distillation", "label_smoothing", "no_assistants"]
    assert [c.candidate.policy for c in chained] == ["residual", "residual", "sequential"]
    assert controls_of(direct, builder, 2, CAPPED.model_copy(update={"controls": False})) == []
    for alone in ("none", "label_smoothing"):  # they learn from labels alone, as the controls do
        assert controls_of(candidate_of(context, alone, 0), builder, 2, everything) == []
