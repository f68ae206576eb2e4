"""Chains: who learns from whom under each policy, what is deployed, what is shared, and several teachers at once."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from nas_kd.kd.chain import Chain

from nas_kd.commands.search import search
from nas_kd.context.callbacks import Callback
from nas_kd.context.run_context import Context
from nas_kd.context.run_folder import RunFolder
from nas_kd.data.dataset import as_input
from nas_kd.engine.teacher_outputs import Teacher
from nas_kd.errors import InputError
from nas_kd.export.onnx_export import export_onnx
from nas_kd.kd.controls import controls_of, training_cost
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.kd.teachers import prepare_teachers
from nas_kd.kd.training_job import TrainingJob
from nas_kd.models.subnetwork import cut_weights
from nas_kd.nas.gate import Gate
from nas_kd.results.candidate import Candidate, Recipe
from nas_kd.serialization import fingerprint
from nas_kd.store.store import Store

from .conftest import SMALL, small_config

pytestmark = pytest.mark.xdist_group("chains")
SMALL_TEACHER: dict[str, Any] = dict(SMALL["teacher"])  # type: ignore[call-overload]


class Recorded(Chain):
    """Writes down every lesson that is really given."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.given: list[tuple[str, list[str]]] = []
        self.begun: list[dict[str, torch.Tensor]] = []  # the weights that each lesson began with

    def training(self, job: TrainingJob, student: Any, teachers: Any) -> Any:
        self.begun.append({k: v.clone() for k, v in student.state_dict().items()})
        self.given.append((job.recipe.method, [t.key for t in teachers]))
        return super().training(job, student, teachers)


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    config = small_config(distill={"methods": ["soft_targets"], "epochs": 2})
    return Context.prepare(config, RunFolder(tmp_path_factory.mktemp("chain")), Callback())


@pytest.fixture(scope="module")
def teachers(context: Context) -> list[Teacher]:
    """Two, from nothing but their initial weights: what they say matters less than who hears it."""
    builder = NetworkBuilder(context.data, context.space)
    architecture = context.space.size_ladder(6)[4]
    return [Teacher(builder.build(architecture, seed).eval(), fingerprint(seed), "", 10**6, 1) for seed in (0, 1)]


@pytest.fixture
def chain(context: Context, teachers: list[Teacher], tmp_path: Path) -> Recorded:
    """With an empty store."""
    return Recorded(replace(context, store=Store(tmp_path)), NetworkBuilder(context.data, context.space), teachers)


def candidate_of(context: Context, method: str, assistants: int, **further: Any) -> Candidate:
    small, *larger = context.space.size_ladder(6)[:4]
    return Candidate(small, tuple(reversed(larger[:assistants])), Recipe(method), **further)


def test_who_is_taught_inherits_weights_where_the_config_says_so(chain: Recorded, teachers: list[Teacher]) -> None:
    config = chain.context.config
    inheriting = config.model_copy(update={"search": config.search.model_copy(update={"inherit": True})})
    heir = Recorded(replace(chain.context, config=inheriting), chain.builder, teachers)
    taught, plain = (candidate_of(chain.context, method, 0) for method in ("soft_targets", "none"))
    keys = {heir.distill(taught, 0, 1).key, heir.distill(plain, 0, 1).key}
    student = heir.builder.build(taught.student, 0)
    expected = cut_weights(teachers[0].model.state_dict(), student)
    assert all(torch.equal(heir.begun[0][k], v) for k, v in expected.items())
    assert all(torch.equal(heir.begun[1][k], v) for k, v in student.state_dict().items())
    chain.distill(taught, 0, 1)
    assert all(torch.equal(chain.begun[0][k], v) for k, v in student.state_dict().items())
    assert chain.distill(taught, 0, 1).key not in keys
    assert chain.distill(plain, 0, 1).key in keys
    heir.weight_sources = (heir.distill(plain, 0, 1).key,)  # as large as the student itself: nearer than its teacher
    heir.distill(taught, 0, 1)
    assert all(torch.equal(heir.begun[-1][k], v) for k, v in heir.distill(plain, 0, 1).model.state_dict().items())


def test_sequential_links_learn_from_the_one_before_and_are_trained_once(context: Context, chain: Recorded) -> None:
    two, one = candidate_of(context, "soft_targets", 2), candidate_of(context, "soft_targets", 1)
    trained = chain.distill(two, seed=0, epochs=2)
    keys = [keys for _, keys in chain.given]
    assert [len(k) for k in keys] == [1, 1, 1]
    assert keys[0] == [fingerprint(0)]
    assert len({k[0] for k in keys}) == 3
    chain.distill(two, seed=5, epochs=2)
    assert len(chain.given) == 4  # another seed of the student, the same assistants
    shared = Candidate(one.student, two.assistants[:1], one.recipe)
    chain.distill(shared, seed=0, epochs=2)
    assert len(chain.given) == 5  # a shorter path through the same assistant
    again = Recorded(chain.context, chain.builder, chain._roots)
    assert again.distill(two, seed=0, epochs=2).key == trained.key
    assert again.given == []


def test_dense_links_learn_from_all_before(context: Context, chain: Recorded) -> None:
    chain.distill(candidate_of(context, "soft_targets", 2, policy="dense"), seed=0, epochs=2)
    keys = [keys for _, keys in chain.given]
    assert [len(k) for k in keys] == [1, 2, 3]
    assert keys[2][: len(keys[1])] == keys[1]


def test_a_sum_is_deployed_and_its_costs_count_all_members(context: Context, chain: Recorded) -> None:
    candidate = candidate_of(context, "soft_targets", 1, policy="residual")
    trained = chain.distill(candidate, seed=0, epochs=2)
    assert [method for method, _ in chain.given] == ["soft_targets", "residual"]
    x = as_input(context.data.val.x[:16])
    alone = chain.distill(candidate_of(context, "soft_targets", 0), seed=0, epochs=2).model
    with torch.no_grad():
        added = trained.model(x) - alone(x)
    assert added.abs().max() > 1e-3
    builder, gate = chain.builder, Gate(context, chain.builder)
    costs = gate.costs(*candidate.deployed)
    parameters = [builder.parameters(a) for a in candidate.deployed]
    assert costs.parameters == sum(parameters)
    assert len(parameters) == 2
    assert costs.size_bytes == len(export_onnx(trained.model, context.data.input_shape))
    assert costs.size_bytes > gate.costs(candidate.student).size_bytes + 4 * parameters[1]


def test_the_sums_accuracy_is_judged_not_the_members(context: Context, chain: Recorded) -> None:
    trained = chain.distill(candidate_of(context, "none", 1, policy="residual"), seed=0, epochs=2)
    val = context.data.val
    with torch.no_grad():
        right = trained.model(as_input(val.x)).argmax(dim=1) == val.y
    assert trained.val_accuracy == pytest.approx(right.double().mean().item())
    assert chain.given[-1][0] == "residual"
    assert len(chain.given[-1][1]) == 1  # the frozen student alone: nobody teaches


def test_born_again_is_a_chain_of_the_students_own_architecture(context: Context, chain: Recorded) -> None:
    chain.distill(candidate_of(context, "born_again", 0), seed=0, epochs=2)
    methods = [method for method, _ in chain.given]
    assert methods[0] == "none"
    assert set(methods[1:]) == {"born_again"}
    assert len({keys[0] for _, keys in chain.given[1:]}) == len(methods) - 1
    assert fingerprint(0) not in [key for _, keys in chain.given for key in keys]


def test_methods_hear_as_many_teachers_as_they_can_use(context: Context, chain: Recorded) -> None:
    for method in ("soft_targets", "average_teachers", "none"):
        chain.distill(candidate_of(context, method, 0), seed=0, epochs=1)
    assert [len(keys) for _, keys in chain.given] == [1, 2, 0]


def test_costs_of_training_count_peers_generations_and_assistants(context: Context, chain: Recorded) -> None:
    macs = chain.builder.macs(candidate_of(context, "none", 0).student)
    assert training_cost(candidate_of(context, "none", 0), chain, 4) == 4 * macs
    assert training_cost(candidate_of(context, "dml", 0), chain, 4) == 3 * 4 * macs
    chained = candidate_of(context, "soft_targets", 1)
    assistant = chain.builder.macs(chained.assistants[0])
    assert training_cost(chained, chain, 4) == 4 * macs + 2 * assistant  # the config's schedule has 2 epochs
    kinds = [
        (c.kind, c.candidate.policy) for c in controls_of(candidate_of(context, "dkd", 1, policy="residual"), chain)
    ]
    assert kinds == [("no_distillation", "residual"), ("no_assistants", "sequential")]


def test_several_teachers_are_trained_apart_and_all_recorded(tmp_path: Path) -> None:
    teacher = SMALL_TEACHER | {"epochs": 8}
    config = small_config(
        chain={"max_assistants": 1, "assistant_sizes": 2, "policy": ["sequential", "dense", "residual"]},
        distill={"methods": ["average_teachers", "dml", "soft_targets"], "epochs": 2},
        search={"trials": 5},
        finalists={"max": 1, "seeds": 1},
    ).model_dump()
    run = search(type(small_config()).model_validate(config | {"teacher": [teacher, teacher]}), tmp_path / "run")
    assert run.state == "finished"
    assert run.teacher is not None
    assert len(run.other_teachers) == 1
    assert run.other_teachers[0].val != run.teacher.val or run.other_teachers[0].test != run.teacher.test
    assert all(t.test is not None for t in (run.teacher, *run.other_teachers))
    policies = {t.candidate.get("policy", "sequential") for t in run.trials}
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
def test_what_a_method_lacks_is_said_before_anything_is_trained(
    sections: dict[str, dict[str, object]], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught:
        Context.prepare(small_config(**sections), RunFolder(tmp_path), Callback())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_same_teacher_twice_is_refused(tmp_path: Path) -> None:
    teacher = SMALL_TEACHER | {"epochs": 8, "seed": 3}
    config = type(small_config()).model_validate(small_config().model_dump() | {"teacher": [teacher, teacher]})
    context = Context.prepare(config, RunFolder(tmp_path), Callback())
    with pytest.raises(InputError, match="two of the teachers are the same network"):
        prepare_teachers(context, Gate(context, NetworkBuilder(context.data, context.space)))
