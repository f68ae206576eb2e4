"""How teachers are shown to methods as a part of the search: no parameters where there is nothing to choose."""

from typing import Any

import pytest
from optuna.trial import FixedTrial

from nas_kd.config.options import SearchConfig
from nas_kd.data.prepare import load_dataset
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.models.search_space import load_space
from nas_kd.nas.propose import Proposer
from nas_kd.nas.search_plan import SearchPlan
from nas_kd.results.teaching import Teaching
from tests.small_runs import small_config

NEW = {"standardize", "checkpoint", "progression"}
EVERYTHING = {"standardize": [False, True], "progression": ["none", "checkpoints", "stages"]}


@pytest.fixture(scope="module")
def builder() -> NetworkBuilder:
    return NetworkBuilder(load_dataset(small_config().data, 0), load_space("resnet"))


def config_with(checkpoints: int | None = 2, **distill: Any) -> SearchConfig:
    methods = ["soft_targets", "attention_transfer", "none", "soft_targets+similarity"]
    return small_config(teacher={"checkpoints": checkpoints}, distill={"methods": methods, **distill})


def proposer(config: SearchConfig, builder: NetworkBuilder) -> Proposer:
    return Proposer(config, load_space("resnet"), builder, 400_000)


def test_there_are_parameters_only_where_there_is_a_choice(builder: NetworkBuilder) -> None:
    usual = proposer(config_with(None), builder).distributions
    assert not NEW & set(usual)
    fixed = config_with(2, standardize=True, checkpoint=1, progression="stages")
    assert set(proposer(fixed, builder).distributions) == set(usual)
    everything = proposer(config_with(2, **EVERYTHING), builder).distributions
    assert set(everything) - set(usual) == NEW
    assert set(proposer(config_with(2), builder).distributions) - set(usual) == {"checkpoint"}


def parameters(builder: NetworkBuilder, config: SearchConfig, **changed: Any) -> dict[str, Any]:
    made = proposer(config, builder)
    (first,) = made.direct_trials([builder.smallest()])
    return first | {"policy": "sequential", "precision": "fp32"} | changed


CHAIN, MAPS = {"assistant.1": "2"}, {"method": "attention_transfer"}


@pytest.mark.parametrize(
    ("drawn", "teaching"),
    [
        ({}, Teaching()),
        ({"standardize": True, "checkpoint": 2}, Teaching(standardize=True, checkpoint=2)),
        ({"progression": "checkpoints", "checkpoint": 1}, Teaching(progression="checkpoints")),
        ({"progression": "stages", "checkpoint": 1}, Teaching(checkpoint=1)),
        (MAPS | {"progression": "stages", "standardize": True}, Teaching(progression="stages")),
        ({"method": "none", "progression": "checkpoints", "standardize": True, "checkpoint": 2}, Teaching()),
        (CHAIN | {"standardize": True, "checkpoint": 2}, Teaching(standardize=True)),
        (CHAIN | {"progression": "checkpoints"}, Teaching()),
    ],
)  # fmt: skip
def test_what_makes_no_difference_makes_no_other_candidate(
    drawn: dict[str, Any], teaching: Teaching, builder: NetworkBuilder
) -> None:
    config = config_with(2, **EVERYTHING)
    candidate = proposer(config, builder).candidate(FixedTrial(parameters(builder, config, **drawn)))
    assert candidate.recipe.teaching == teaching
    assert len(candidate.assistants) == ("assistant.1" in drawn)
    if teaching == Teaching() and "method" not in drawn and "assistant.1" not in drawn:
        plain = config_with(None)
        same = proposer(plain, builder).candidate(FixedTrial(parameters(builder, plain)))
        assert same.id == candidate.id


def test_first_proposals_are_taught_by_the_first_choice(builder: NetworkBuilder) -> None:
    config = config_with(2, standardize=[True, False], checkpoint=[1, "final"])
    made = proposer(config, builder)
    first = made.initial_trials(lambda *_: True, SearchPlan.of(config, 30, 10))
    assert all((p["standardize"], p["checkpoint"]) == (True, 1) for p in first)
    fixed = config_with(2, standardize=True, checkpoint=1)
    candidate = proposer(fixed, builder).candidate(FixedTrial(parameters(builder, fixed)))
    assert candidate.recipe.teaching == Teaching(standardize=True, checkpoint=1)
