"""The loop learns, repeats itself bit by bit, and goes on from a checkpoint as if never stopped."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from nas_kd.config.options import DistillOptions
from nas_kd.data.dataset import Split
from nas_kd.engine.evaluation import accuracy_of
from nas_kd.engine.method_setup import reinitialized
from nas_kd.engine.schedule import Schedule
from nas_kd.engine.teacher_outputs import TeacherOutputs
from nas_kd.engine.training import Training, TrainingSetup
from nas_kd.errors import TrialError
from nas_kd.methods.base import Batch, Method, MethodContext, Outputs
from nas_kd.methods.combine import make_method
from nas_kd.results.training_recipe import TrainingRecipe
from nas_kd.store.store import Store

from .conftest import FP32, net, stripes

OPTIMIZERS = [("sgd", 0.1), ("adamw", 0.01)]
METHODS = ["none", "fitnet", "soft_targets+similarity"]  # all of them: tests/methods/test_contract.py


def trained(setup: TrainingSetup, teacher: TeacherOutputs, method: str, until: int | None = None) -> Training:
    training = Training(net(4, seed=1, dropout=0.2), [teacher], make_method(method), setup, rebuild)
    training.run(until)
    return training


def rebuild(seed: int) -> nn.Module:
    return net(4, seed=seed, dropout=0.2)


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in model.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_it_learns(setup: TrainingSetup, teacher: TeacherOutputs) -> None:
    long = replace(setup, schedule=replace(setup.schedule, epochs=20))
    x, y = stripes()
    student = trained(long, teacher, "none").averaged_students()[0]
    assert accuracy_of(student, Split(x, y), FP32) > 0.9


@pytest.mark.parametrize(("optimizer", "rate"), OPTIMIZERS)
@pytest.mark.parametrize("method", METHODS)
def test_equal_seeds_give_equal_weights_and_a_checkpoint_changes_nothing(
    method: str, optimizer: str, rate: float, setup: TrainingSetup, teacher: TeacherOutputs
) -> None:
    setup = replace(setup, schedule=replace(setup.schedule, optimizer=optimizer, learning_rate=rate))
    whole = trained(setup, teacher, method)
    first = trained(setup, teacher, method, until=2)
    torch.manual_seed(12345)  # whatever happened in between
    second = Training(net(4, seed=1, dropout=0.2), [teacher], make_method(method), setup, rebuild)
    second.restore({k: v.clone() for k, v in first.state().items()})
    assert second.epoch == 2
    second.run()
    assert same(weights(whole.averaged_students()[0]), weights(second.averaged_students()[0]))
    other = Training(net(4, seed=1, dropout=0.2), [teacher], make_method(method), replace(setup, seed=4), rebuild)
    other.run()
    assert not same(weights(whole.averaged_students()[0]), weights(other.averaged_students()[0]))


def test_the_teacher_is_left_as_it_was(setup: TrainingSetup, teacher: TeacherOutputs) -> None:
    before = weights(teacher.teacher.model)
    trained(setup, teacher, "soft_targets+similarity")
    assert same(before, weights(teacher.teacher.model))
    assert all(p.grad is None for p in teacher.teacher.model.parameters())


class Late(Method):
    """Two modules of its own: one is used in every step, the other from the second epoch on."""

    name, source, summary = "late", "2024", "a module that starts late"
    teachers, target_grad_ratio = "none", None

    def __init__(self) -> None:
        super().__init__()
        self.early, self.late = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, torch.Tensor]:
        terms = {"early": self.early(student.logits).square().mean()}
        return terms | ({"late": self.late(student.logits).square().mean()} if batch.progress > 0.2 else {})


@pytest.mark.parametrize(("optimizer", "rate"), OPTIMIZERS)
def test_what_gets_its_first_gradient_late_is_trained_from_then_on(
    optimizer: str, rate: float, setup: TrainingSetup
) -> None:
    setup = replace(setup, schedule=replace(setup.schedule, optimizer=optimizer, learning_rate=rate))

    def started() -> tuple[Training, Late]:
        torch.manual_seed(0)
        method = Late()
        return Training(net(4), [], method, setup, rebuild), method

    training, method = started()
    before = method.late.weight.detach().clone()
    training.run(until=1)
    assert torch.equal(before, method.late.weight)
    resumed, same_method = started()
    resumed.restore({k: v.clone() for k, v in training.state().items()})
    for each in (training, resumed):
        each.run()
    assert not torch.equal(before, method.late.weight)
    assert same(weights(method), weights(same_method))


class Steep(Method):
    """A parameter of its own whose gradient is a million, whatever the student does."""

    name, source, summary = "steep", "2024", "a steep slope"
    teachers, target_grad_ratio = "none", None

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.zeros(1))

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, torch.Tensor]:
        return {"steep": 1e6 * self.place.sum()}


def test_gradients_of_the_methods_own_are_clipped_and_do_not_slow_the_student_down(
    setup: TrainingSetup, teacher: TeacherOutputs
) -> None:
    method, alone = Steep(), trained(setup, teacher, "none", until=1)
    training = Training(net(4, seed=1, dropout=0.2), [], method, setup, rebuild)
    training.run(until=1)
    longest = setup.schedule.learning_rate * setup.schedule.clip_norm * 10 * training.steps_per_epoch  # 10: momentum
    assert 0 < float(method.place.detach().abs()) < longest
    assert same(weights(training.student), weights(alone.student))


class Pull(Method):
    """A gradient on the student that is far above the limit."""

    name, source, summary = "pull", "2024", "a steep slope for the student"
    teachers, target_grad_ratio = "none", None

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, torch.Tensor]:
        return {"pull": 1e3 * student.logits.square().mean()}


class FreePull(Pull):
    clipped = False


@pytest.mark.parametrize(
    ("method", "calibrated", "cut"), [(Pull, True, True), (Pull, False, False), (FreePull, True, False)]
)
def test_gradients_are_clipped_but_for_those_of_published_weights(
    method: type[Method], calibrated: bool, cut: bool, setup: TrainingSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    norms: list[float] = []
    training = Training(net(4), [], method(), replace(setup, calibrated=calibrated), rebuild)
    step = training.optimizer.step

    def noted() -> None:
        gradients = [p.grad for p in training.student.parameters() if p.grad is not None]
        norms.append(float(torch.stack([g.norm() for g in gradients]).norm()))
        step()

    monkeypatch.setattr(training.optimizer, "step", noted)
    training.run(until=1)
    limit = setup.schedule.clip_norm
    assert norms[0] == pytest.approx(limit, rel=1e-4) if cut else norms[0] > 2 * limit


class Inventive(Late):
    """Makes its samples up with a generator that it trains by an optimiser of its own."""

    name, ce_weight = "inventive", 0.0
    asked: bool

    def attach(self, context: MethodContext) -> None:
        self.generator = nn.Linear(4, 64)
        self._adam = torch.optim.Adam(self.generator.parameters(), lr=0.01)

    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        return {"generator": self._adam}

    def draw(self, real: Callable[[], Batch]) -> Batch:
        self._adam.zero_grad()
        x = self.generator(torch.randn(16, 4)).view(16, 1, 8, 8)
        torch.autograd.backward(x.square().mean())
        self._adam.step()
        empty = torch.zeros(0, dtype=torch.int64)
        return Batch(x.detach(), torch.zeros(16, dtype=torch.int64), empty, 0.0)


def test_a_methods_own_optimiser_is_saved_and_not_stepped_by_the_loop(setup: TrainingSetup) -> None:
    def started() -> tuple[Training, Inventive]:
        torch.manual_seed(0)
        method = Inventive()
        return Training(net(4), [], method, setup, rebuild), method

    whole, method = started()
    whole.run()
    steps = whole.steps_per_epoch * setup.schedule.epochs
    assert {float(s["step"]) for s in method.optimizers()["generator"].state.values()} == {steps}
    assert not {id(p) for p in method.generator.parameters()} & {
        id(p) for group in whole.optimizer.param_groups for p in group["params"]
    }
    first, _ = started()
    first.run(until=2)
    second, _ = started()
    second.restore({k: v.clone() for k, v in first.state().items()})
    second.run()
    assert same(
        {k: v for k, v in whole.state().items() if k != "progress/seconds"},
        {k: v for k, v in second.state().items() if k != "progress/seconds"},
    )


def test_an_error_takes_the_hooks_off(setup: TrainingSetup, teacher: TeacherOutputs) -> None:
    wild = replace(setup, schedule=replace(setup.schedule, learning_rate=1e30, clip_norm=1e30))
    student = net(4)
    with pytest.raises(TrialError, match="the loss became"):
        Training(student, [teacher], make_method("similarity"), wild, rebuild).run()
    networks = (student, teacher.teacher.model)
    assert not any(m._forward_hooks or m._forward_pre_hooks for n in networks for m in n.modules())


@pytest.mark.parametrize("epoch", [0, 3])
def test_cached_logits_are_the_live_teachers_bit_for_bit(
    setup: TrainingSetup, teacher: TeacherOutputs, epoch: int
) -> None:
    indices = torch.randperm(96, generator=torch.Generator().manual_seed(epoch))[:32]
    x = FP32.to_layout(setup.source.augmenter.batch(epoch, indices))
    extractor = teacher.extractor(frozenset({"logits"}))
    live, cached = teacher.live(extractor, x), teacher.cached(epoch, indices)
    extractor.close()
    assert torch.equal(live.logits, cached.logits)
    student = Outputs(torch.randn(32, 3), (), torch.zeros(32, 0))
    batch, method = Batch(x, setup.source.labels[indices], indices, 0.5), make_method("soft_targets")
    losses = [method(student, [t], batch)["soft_targets"] for t in (live, cached)]
    assert torch.equal(losses[0], losses[1])


def test_the_cache_survives_in_the_store(setup: TrainingSetup, teacher: TeacherOutputs, tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = TeacherOutputs(teacher.teacher, setup.source.augmenter, 32, FP32, store)
    logits = first.cached(1, torch.arange(96)).logits
    silent = net(12, seed=10).eval()  # another network under the same key: only the store can know the logits
    second = TeacherOutputs(replace(teacher.teacher, model=silent), setup.source.augmenter, 32, FP32, store)
    assert torch.equal(second.cached(1, torch.arange(96)).logits, logits)


def test_a_loss_that_is_not_finite_fails_with_its_epoch(setup: TrainingSetup) -> None:
    wild = replace(setup, schedule=replace(setup.schedule, learning_rate=1e30, clip_norm=1e30))
    with pytest.raises(TrialError, match=r"the loss became (nan|inf) in epoch \d+ of 6"):
        Training(net(4), [], make_method("none"), wild, rebuild).run()


def test_networks_have_averaged_weights_inside_and_trained_ones_afterwards(setup: TrainingSetup) -> None:
    run = Training(net(4), [], make_method("dml"), setup)
    run.run(until=2)
    trained, copies = [weights(n) for n in run.networks], [weights(n) for n in run.averaged_students()]
    with run.averaged():
        assert all(same(weights(n), a) for n, a in zip(run.networks, copies, strict=True))
        assert not any(m.training for n in run.networks for m in n.modules())
    assert all(same(weights(n), t) for n, t in zip(run.networks, trained, strict=True))
    assert not same(trained[0], copies[0])
    run.load_average()
    assert all(same(weights(n), a) for n, a in zip(run.networks, copies, strict=True))


def test_peers_of_a_users_network_have_other_initial_weights(setup: TrainingSetup) -> None:
    student = net(4)
    student.head.weight.requires_grad_(False)
    student.stem.norm.running_mean += 1
    first, again, other = (reinitialized(student, seed) for seed in (1, 1, 2))
    assert same(weights(first), weights(again))
    assert not torch.equal(first.stem.conv.weight, other.stem.conv.weight)
    assert not torch.equal(first.stem.conv.weight, student.stem.conv.weight)
    assert torch.equal(first.stem.norm.running_mean, torch.zeros(4))
    assert same(weights(student.stages), weights(net(4).stages))
    run = Training(student, [], make_method("dml"), setup)
    assert len({float(n.stem.conv.weight.detach().sum()) for n in run.networks}) == 3


def test_out_of_memory_is_a_failed_training(setup: TrainingSetup) -> None:
    class Greedy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.training:
                torch.empty(2**60)
            out: torch.Tensor = self.net(x)
            return out

    with pytest.raises(TrialError, match="out of memory in epoch 1"):
        Training(Greedy(), [], make_method("none"), setup, rebuild).run()


def test_a_schedule_takes_what_fits_the_data_from_the_recipe_and_the_rest_from_the_options() -> None:
    options = DistillOptions(epochs=7, batch_size=64, learning_rate=0.5, momentum=0.8, warmup=0.2, ema=0.3, clip_norm=2)
    recipe = TrainingRecipe(9, 16, "adamw", 0.01, 0.05, "none")
    want = Schedule(9, 16, 0.01, 0.8, 0.05, 0.2, 0.3, 2.0, optimizer="adamw")
    assert Schedule.of(options, recipe) == want
    assert Schedule.of(options, recipe, 12, (3,)) == replace(want, epochs=12, restarts=(3,))


def test_learning_rate_warms_up_and_ends_at_zero(setup: TrainingSetup) -> None:
    schedule = setup.schedule
    assert schedule.learning_rate_at(0.05) == pytest.approx(0.05)
    assert schedule.learning_rate_at(0.1) == pytest.approx(0.1)
    assert schedule.learning_rate_at(0.55) == pytest.approx(0.05)
    assert schedule.learning_rate_at(1.0) == pytest.approx(0.0)


def test_the_learning_rate_ends_at_zero_before_every_restart() -> None:
    schedule = Schedule(30, 8, 0.1, 0.9, 0, 0.1, 0.1, 1, restarts=(3, 10))
    rate = schedule.learning_rate_at
    assert rate(0.01 / 2) == pytest.approx(0.05)  # half of the warm-up, a tenth of the first cycle
    assert rate(0.1) == pytest.approx(0.0)
    assert rate(0.1 + 1e-6) == pytest.approx(0.1, rel=1e-3)
    assert rate((3 + 3.5) / 30) == pytest.approx(0.05)
    assert rate(10 / 30) == pytest.approx(0.0)
    assert rate((10 + 5) / 30) == pytest.approx(0.05 * (1 + math.cos(math.pi / 4)))
    assert rate(1.0) == pytest.approx(0.0)
