"""Chains: which teachers each link has under each policy, what is deployed and shared, several teachers at once."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nas_kd.commands.search import search
from nas_kd.context.run_context import RunContext
from nas_kd.data.dataset import as_input
from nas_kd.engine.teacher_outputs import Teacher
from nas_kd.errors import InputError
from nas_kd.export.onnx_export import export_onnx
from nas_kd.kd.chain_policies.base import load_policy
from nas_kd.kd.controls import controls_of, training_cost
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.kd.teachers import prepare_teachers
from nas_kd.kd.training_job import TrainedModel
from nas_kd.models.subnetwork import cut_weights
from nas_kd.nas.gate import Gate
from nas_kd.results.candidate import Candidate, Recipe
from nas_kd.serialization import fingerprint
from nas_kd.store.store import Store
from tests.small_runs import (
    SMALL_TEACHER,
    Seed,
    TrainingLog,
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


def candidate_of(context: RunContext, method: str, assistants: int, **further: Any) -> Candidate:
    small, *larger = context.space.size_ladder(6)[:4]
    return Candidate(small, tuple(reversed(larger[:assistants])), Recipe(method), **further)


def equal(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


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
    assert costs.size_bytes == len(export_onnx(trained.model, empty.data.input_shape))
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


def test_costs_of_training_count_peers_generations_and_assistants(empty: RunContext, chain: Recorded) -> None:
    builder = chain.distiller.builder
    macs = builder.macs(candidate_of(empty, "none", 0).student)
    assert training_cost(candidate_of(empty, "none", 0), builder, 4, 2) == 4 * macs
    assert training_cost(candidate_of(empty, "dml", 0), builder, 4, 2) == 3 * 4 * macs
    assert training_cost(candidate_of(empty, "born_again", 0), builder, 4, 2) == (4 + 2 * 2) * macs
    chained = candidate_of(empty, "soft_targets", 1)
    assistant = builder.macs(chained.assistants[0])
    assert training_cost(chained, builder, 4, 2) == 4 * macs + 2 * assistant
    summed = replace(chained, policy="residual")
    assert training_cost(summed, builder, 4, 2) == 4 * macs + 4 * assistant


def test_controls_are_trained_at_the_same_cost_up_to_a_cap(empty: RunContext, chain: Recorded) -> None:
    builder = chain.distiller.builder
    plain, direct = controls_of(candidate_of(empty, "dkd", 1, policy="residual"), builder, 2, 1.5)
    assert (plain.kind, plain.candidate.policy, plain.epochs, plain.cost_ratio) == ("no_distillation", "residual", 2, 1)
    assert (direct.kind, direct.candidate.policy, direct.epochs) == ("no_assistants", "sequential", 3)
    assert direct.cost_ratio < 1
    assert [c.kind for c in controls_of(candidate_of(empty, "dkd", 0), builder, 2, 1.5)] == ["no_distillation"]
    assert controls_of(candidate_of(empty, "none", 0), builder, 2, 1.5) == []


@pytest.mark.usefixtures("brief_measurements")
def test_several_teachers_are_trained_apart_and_all_recorded(with_latencies: Seed, tmp_path: Path) -> None:
    config = small_config(
        teacher=[SMALL_TEACHER, SMALL_TEACHER],
        chain={"max_assistants": 1, "assistant_sizes": 2, "policy": ["sequential", "dense", "residual"]},
        distill={"methods": ["average_teachers", "dml", "soft_targets"], "epochs": 2},
        search={"trials": 5},
        finalists={"max": 1, "seeds": 1},
    )
    run = search(config, with_latencies(tmp_path / "run"))
    assert run.state == "finished"
    assert run.teacher is not None
    assert len(run.other_teachers) == 1
    assert run.other_teachers[0].val != run.teacher.val or run.other_teachers[0].test != run.teacher.test
    assert all(t.test is not None for t in (run.teacher, *run.other_teachers))
    policies = {t.candidate.policy for t in run.trials}
    assert policies <= {"sequential", "dense", "residual"}


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"distill": {"methods": ["average_teachers"]}},
            "'average_teachers' needs several teachers, the config has one",
        ),
        ({"distill": {"methods": ["cross_modal"]}}, "'cross_modal' needs paired data"),
        ({"chain": {"method": "fitnets"}}, "unknown method 'fitnets'; did you mean 'fitnet'?"),
        ({"distill": {"methods": ["dafl+deep_inversion"]}}, "two parts make up their own samples"),
    ],
)
def test_what_a_method_lacks_is_an_error_before_anything_is_trained(
    sections: dict[str, dict[str, object]], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught:
        open_context(small_config(**sections), tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_same_teacher_twice_is_refused(with_teachers: Seed, tmp_path: Path) -> None:
    twice = small_config(teacher=[SMALL_TEACHER, SMALL_TEACHER | {"seed": 0}])
    context = open_context(twice, with_teachers(tmp_path))
    with pytest.raises(InputError, match="two of the teachers are the same network"):
        prepare_teachers(context, Gate(context, NetworkBuilder(context.data, context.space)).of_file)
