"""Chains: which teachers each link has under each policy, what is deployed and shared, several teachers at once."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nas_kd.context.run_context import RunContext, dataset_record
from nas_kd.data.dataset import as_input
from nas_kd.deployment.metadata import metadata_size
from nas_kd.engine.teacher_outputs import Teacher
from nas_kd.export.onnx_export import export_onnx
from nas_kd.kd.chain_policies.base import load_policy
from nas_kd.kd.training_job import TrainedModel
from nas_kd.models.subnetwork import cut_weights
from nas_kd.nas.gate import Gate
from nas_kd.results.candidate import Candidate, Choice
from nas_kd.serialization import fingerprint
from nas_kd.store.store import Store
from tests.small_runs import (
    TrainingLog,
    candidate_of,
    distiller_of,
    open_context,
    small_config,
    untrained_teacher,
)

pytestmark = pytest.mark.xdist_group("chains")


class Recorded:
    """A distiller, and the trainings that really take place."""

    def __init__(self, context: RunContext, teachers: Sequence[Teacher]) -> None:
        self.distiller = distiller_of(context, teachers)
        self.log = TrainingLog(self.distiller)

    def distill(self, candidate: Candidate, seed: int = 0, epochs: int = 2) -> TrainedModel:
        return self.distiller.distill(candidate, seed, epochs)


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> RunContext:
    config = small_config(distill={"methods": ["soft_targets"], "epochs": 2})
    return open_context(config, tmp_path_factory.mktemp("chain"))


@pytest.fixture(scope="module")
def teachers(context: RunContext) -> list[Teacher]:
    """Two, of nothing but their initial weights."""
    return [untrained_teacher(context, seed) for seed in (0, 1)]


@pytest.fixture
def empty(context: RunContext, tmp_path: Path) -> RunContext:
    """The context with an empty store."""
    return replace(context, store=Store(tmp_path))


@pytest.fixture
def chain(empty: RunContext, teachers: list[Teacher]) -> Recorded:
    return Recorded(empty, teachers)


def equal(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


OWN: dict[str, Choice] = {"batch_size": 32, "optimizer": "adamw", "augment": "strong"}


def test_a_candidate_with_training_of_its_own_is_trained_like_one_of_a_run_with_that_recipe(
    empty: RunContext, chain: Recorded, teachers: list[Teacher], tmp_path: Path
) -> None:
    plain = candidate_of(empty, "soft_targets", 0)
    own = replace(plain, recipe=replace(plain.recipe, training=OWN))
    trained, usual = chain.distill(own), chain.distill(plain)
    schedule = chain.log.jobs[0].schedule
    assert (schedule.batch_size, schedule.optimizer, schedule.learning_rate) == (32, "adamw", 0.01)
    assert chain.log.jobs[1].schedule.batch_size == 64
    assert trained.key != usual.key
    other_run = replace(empty, store=Store(tmp_path / "other")).with_recipe(empty.recipe.with_choices(OWN))
    same = Recorded(other_run, teachers).distill(plain)
    assert equal(trained.model.state_dict(), same.model.state_dict())
    assert not equal(trained.model.state_dict(), usual.model.state_dict())


def test_assistants_are_trained_by_the_recipe_of_the_run(empty: RunContext, chain: Recorded) -> None:
    chained = candidate_of(empty, "soft_targets", 1)
    chain.distill(replace(chained, recipe=replace(chained.recipe, training=OWN)))
    assert [(job.schedule.batch_size, job.training.augment) for job in chain.log.jobs] == [(64, "none"), (32, "strong")]
    chain.distill(chained)
    assert len(chain.log.jobs) == 3  # the assistant is found


def test_outputs_are_kept_by_teacher_augmentation_and_batch(chain: Recorded, teachers: list[Teacher]) -> None:
    outputs, recipe = chain.distiller.trainer.outputs, chain.distiller.trainer.recipe
    usual = outputs.of(teachers[0])
    assert outputs.of(teachers[0], recipe) is usual
    assert outputs.of(teachers[0], replace(recipe, learning_rate=0.5, epochs=9)) is usual
    for other in (replace(recipe, augment="strong"), replace(recipe, batch_size=32)):
        assert outputs.of(teachers[0], other) is not usual
    assert outputs.of(teachers[1]) is not usual


def test_a_taught_network_inherits_weights_where_the_config_says_so(
    empty: RunContext, chain: Recorded, teachers: list[Teacher]
) -> None:
    config = empty.config
    inherits = config.model_copy(update={"search": config.search.model_copy(update={"inherit": True})})
    heir = Recorded(replace(empty, config=inherits), teachers)
    taught, plain = (candidate_of(empty, method, 0) for method in ("soft_targets", "none"))
    keys = {heir.distill(taught, epochs=1).key, heir.distill(plain, epochs=1).key}
    student = heir.distiller.builder.build(taught.student, 0)
    assert equal(heir.log.initial_weights[0], cut_weights(teachers[0].model.state_dict(), student))
    assert equal(heir.log.initial_weights[1], student.state_dict())
    fresh = chain.distill(taught, epochs=1)
    assert equal(chain.log.initial_weights[0], student.state_dict())
    assert fresh.key not in keys
    assert chain.distill(plain, epochs=1).key in keys


def test_stored_weights_are_inherited_before_a_teachers(empty: RunContext, teachers: list[Teacher]) -> None:
    config = empty.config
    inherits = config.model_copy(update={"search": config.search.model_copy(update={"inherit": True})})
    heir = Recorded(replace(empty, config=inherits), teachers)
    taught, plain = (candidate_of(empty, method, 0) for method in ("soft_targets", "none"))
    source = heir.distill(plain, epochs=1)  # as large as the student itself
    inheriting = heir.distiller.inheriting_from((source.key,))
    assert heir.distiller.inheriting_from((source.key,)) is inheriting
    assert (heir.distiller.weight_sources, inheriting.weight_sources) == ((), (source.key,))
    inheriting.distill(taught, 0, 1)
    assert equal(heir.log.initial_weights[-1], source.model.state_dict())


def test_sequential_links_learn_from_the_one_before_and_are_trained_once(
    empty: RunContext, chain: Recorded, teachers: list[Teacher]
) -> None:
    two, one = candidate_of(empty, "soft_targets", 2), candidate_of(empty, "soft_targets", 1)
    trained = chain.distill(two)
    keys = chain.log.teachers
    assert [len(k) for k in keys] == [1, 1, 1]
    assert keys[0] == [fingerprint(0)]
    assert len({k[0] for k in keys}) == 3
    chain.distill(two, seed=5)
    assert len(keys) == 4  # another seed of the student, the same assistants
    chain.distill(Candidate(one.student, two.assistants[:1], one.recipe))
    assert len(keys) == 5  # a shorter path through the same assistant
    again = Recorded(empty, teachers)
    assert again.distill(two).key == trained.key
    assert again.log.jobs == []


def test_dense_links_learn_from_all_before(empty: RunContext, chain: Recorded) -> None:
    chain.distill(candidate_of(empty, "soft_targets", 2, policy="dense"))
    keys = chain.log.teachers
    assert [len(k) for k in keys] == [1, 2, 3]
    assert keys[2][: len(keys[1])] == keys[1]


def test_a_sum_is_deployed_and_its_costs_count_all_members(empty: RunContext, chain: Recorded) -> None:
    candidate = candidate_of(empty, "soft_targets", 1, policy="residual")
    trained = chain.distill(candidate)
    assert chain.log.methods == ["soft_targets", "residual"]
    x = as_input(empty.data.val.x[:16])
    alone = chain.distill(candidate_of(empty, "soft_targets", 0)).model
    with torch.no_grad():
        added = trained.model(x) - alone(x)
    assert added.abs().max() > 1e-3
    builder = chain.distiller.builder
    gate, deployed = Gate(empty, builder), load_policy("residual").deployed(candidate)
    costs = gate.costs(*deployed)
    parameters = [builder.parameters(a) for a in deployed]
    assert costs.parameters == sum(parameters)
    assert len(parameters) == 2
    exported = export_onnx(trained.model, empty.data.input_shape)
    assert costs.size_bytes == len(exported) + metadata_size(dataset_record(empty.data))
    alone_bytes = gate.costs(candidate.student).size_bytes
    assert alone_bytes is not None
    assert costs.size_bytes > alone_bytes + 4 * parameters[1]


def test_the_sums_accuracy_is_judged_not_the_members(empty: RunContext, chain: Recorded) -> None:
    trained = chain.distill(candidate_of(empty, "none", 1, policy="residual"))
    val = empty.data.val
    with torch.no_grad():
        right = trained.model(as_input(val.x)).argmax(dim=1) == val.y
    assert trained.val_accuracy == pytest.approx(right.double().mean().item())
    assert chain.log.methods[-1] == "residual"
    assert len(chain.log.teachers[-1]) == 1  # the frozen student alone


def test_born_again_is_a_chain_of_the_students_own_architecture(empty: RunContext, chain: Recorded) -> None:
    chain.distill(candidate_of(empty, "born_again", 0))
    methods, keys = chain.log.methods, chain.log.teachers
    assert methods[0] == "none"
    assert set(methods[1:]) == {"born_again"}
    assert len({k[0] for k in keys[1:]}) == len(methods) - 1
    assert fingerprint(0) not in [key for teachers in keys for key in teachers]


def test_methods_get_as_many_teachers_as_they_can_use(empty: RunContext, chain: Recorded) -> None:
    for method in ("soft_targets", "average_teachers", "none"):
        chain.distill(candidate_of(empty, method, 0), epochs=1)
    assert [len(keys) for keys in chain.log.teachers] == [1, 2, 0]
