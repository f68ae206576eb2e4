"""A method's gradient is brought to a stated multiple of cross-entropy's, and finding out changes nothing else."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas_kd.engine.calibration import BATCHES, LARGEST, SETTLED, calibrate, calibration_steps
from nas_kd.engine.schedule import Schedule
from nas_kd.engine.teacher_outputs import TeacherOutputs
from nas_kd.engine.training import Training, TrainingSetup
from nas_kd.methods.base import Batch, Method, Outputs
from nas_kd.methods.combine import Combined, make_method
from nas_kd.methods.relation.similarity import Similarity

from .conftest import net

B, D, C = 5, 6, 3


class Shrink(Method):
    """weight * sum of z^2 / 2, mean over the batch: its gradient on W is weight * z^T x / B."""

    name, source, summary = "shrink", "2024", "small logits"
    tunable, weight = ("strength",), 30.0

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        warm = 0.0 if batch.progress < 0.5 else 1.0
        return {"shrink": warm * self.weight * student.logits.square().sum(dim=1).mean() / 2}


class Spread(Shrink):
    name, weight, target_grad_ratio = "spread", -2.0, 0.5

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        return {"spread": self.weight * student.logits.mean()}


class Restless(Shrink):
    """Draws, keeps a statistic, steps an optimiser of its own, and has a term for its own module alone."""

    name = "restless"
    unscaled_terms = frozenset({"own"})

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.critic = nn.BatchNorm1d(C), nn.Linear(C, 1)
        self.register_buffer("bank", torch.zeros(C))
        self.bank: Tensor
        self._adam = torch.optim.Adam(self.critic.parameters(), lr=0.1)

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"critic": self._adam}

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        logits = self.norm(student.logits)
        self.bank.lerp_(student.logits.detach().mean(dim=0), 0.5)
        self._adam.zero_grad()
        torch.autograd.backward(self.critic(student.logits.detach()).square().mean())
        self._adam.step()
        noise = torch.rand(())
        return {"shrink": (1 + noise) * logits[:, 0].square().mean(), "own": 1e6 * student.logits.sum()}


def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(D, C, bias=False)


def batches() -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    return [
        Batch(torch.randn(B, D, generator=generator), torch.arange(B) % C, torch.arange(B), 0.0) for _ in range(BATCHES)
    ]


def shown_by(student: nn.Module) -> Callable[[int], tuple[Outputs, list[Outputs], Batch]]:
    def show(i: int) -> tuple[Outputs, list[Outputs], Batch]:
        batch = batches()[i]
        logits = student(batch.x)
        return Outputs(logits, (), logits[:, :0]), [], batch

    return show


def lengths(student: nn.Linear) -> tuple[float, float, float]:
    """Sums over the batches of the norms of the gradients on W: of cross-entropy, `shrink` and `spread`."""
    w = student.weight.detach().double().numpy()
    ce, shrink, spread = 0.0, 0.0, 0.0
    for batch in batches():
        x, y = batch.x.double().numpy(), batch.y.numpy()
        z = x @ w.T
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        ce += float(np.linalg.norm((p - np.eye(C)[y]).T @ x / B))
        shrink += float(np.linalg.norm(30.0 * z.T @ x / B))
        spread += float(np.linalg.norm(2.0 * np.ones((C, B)) @ x / (B * C)))
    return ce, shrink, spread


@pytest.mark.parametrize("target_grad_ratio", [1.0, 0.25, 7.0])
def test_the_factor_is_the_ratio_of_the_gradients(target_grad_ratio: float) -> None:
    """At strength 1, whatever the strength is, and past the method's warm-up."""
    student, method = linear(), Shrink(strength=3.0)
    method.target_grad_ratio = target_grad_ratio
    reached = calibrate(student, method, shown_by(student))
    assert reached == pytest.approx({"shrink": 3 * target_grad_ratio}, rel=1e-5)
    ce, shrink, _ = lengths(student)
    assert method.scale.item() == pytest.approx(target_grad_ratio * ce / shrink, rel=1e-5)


def test_parts_of_a_sum_are_weighed_apart() -> None:
    student, parts = linear(), (Shrink(), Spread())
    both = Combined(parts)
    calibrate(student, both, shown_by(student))
    ce, shrink, spread = lengths(student)
    assert parts[0].scale.item() == pytest.approx(ce / shrink, rel=1e-5)
    assert parts[1].scale.item() == pytest.approx(0.5 * ce / spread, rel=1e-5)
    assert both.scale.item() == 1


def test_strength_multiplies(setup: TrainingSetup) -> None:
    student = net(4)
    for strength in (1.0, 0.3):
        method = Shrink(strength=strength)
        method.scale.fill_(0.02)
        training = Training(student, [], method, setup, net)
        outputs, batch = (
            Outputs(torch.randn(4, 3), (), torch.zeros(4, 0)),
            Batch(torch.zeros(4, 1, 8, 8), torch.arange(4) % 3, torch.arange(4), 1.0),
        )
        loss, terms = training.loss(outputs, [], batch)
        assert loss.item() == pytest.approx((terms["ce"] + strength * 0.02 * terms["shrink"]).item(), rel=1e-6)
        assert terms["shrink"].item() == pytest.approx(15 * outputs.logits.square().sum(dim=1).mean().item(), rel=1e-6)


@pytest.mark.parametrize("case", ["zero", "nothing", "of the method", "not finite", "free", "no cross-entropy"])
def test_there_is_nothing_to_weigh(case: str) -> None:
    """No gradient on the student, or none that is finite; published weights to be kept; nothing to compare with."""
    student = linear()

    class Odd(Shrink):
        def __init__(self) -> None:
            super().__init__()
            self.own = nn.Parameter(torch.ones(()))

        def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
            z = student.logits
            match case:
                case "zero":
                    return {"odd": 0 * z.sum()}
                case "nothing":
                    return {"odd": z.detach().sum()}
                case "of the method":
                    return {"odd": z.detach().sum() * self.own}
                case "not finite":
                    return {"odd": z.sum() * torch.inf}
                case _:
                    return {"odd": z.sum()}

    method = Odd()
    if case == "free":
        method.target_grad_ratio = None
    if case == "no cross-entropy":
        method.ce_weight = 0.0
    calibrate(student, method, shown_by(student))
    assert method.scale.item() == 1


def test_a_gradient_all_but_zero_is_not_blown_up() -> None:
    student, method = linear(), Shrink()
    method.weight = 1e-12
    calibrate(student, method, shown_by(student))
    assert method.scale.item() == LARGEST


def test_finding_out_leaves_no_trace() -> None:
    student = nn.Sequential(linear(), nn.BatchNorm1d(C), nn.Dropout(0.5))
    method = Restless()
    before = [{k: v.clone() for k, v in m.state_dict().items()} for m in (student, method)]
    torch.manual_seed(3)
    chance = torch.get_rng_state()
    calibrate(student, method, shown_by(student))
    assert torch.equal(chance, torch.get_rng_state())
    for module, state in zip((student, method), before, strict=True):
        changed = [k for k, v in module.state_dict().items() if not torch.equal(v, state[k])]
        assert changed == (["scale"] if module is method else [])
    assert not method.optimizers()["critic"].state
    assert all(p.grad is None for p in student.parameters())


def test_own_terms_do_not_count() -> None:
    student = linear()
    with_own, without = Restless(), Restless()
    without.load_state_dict(with_own.state_dict())
    without.unscaled_terms = frozenset()
    for method in (with_own, without):
        torch.manual_seed(3)
        calibrate(student, method, shown_by(student))
    assert with_own.scale.item() > 1e3 * without.scale.item()


class Recording(Training):
    """Keeps each factor that calibration finds, with the epoch and step before which it is found."""

    def _calibrate(self, forward: Any, step: int) -> None:
        super()._calibrate(forward, step)
        self.__dict__.setdefault("found", {})[self.epoch, step] = self.calibration()[self.method.name]


class Given(Training):
    """Is given the factors in place of finding them."""

    factors: ClassVar[dict[tuple[int, int], float]] = {}

    def _calibrate(self, forward: Any, step: int) -> None:
        self.method.scale.fill_(self.factors[self.epoch, step])


@pytest.mark.parametrize("method", ["soft_targets", "fitnet", "similarity"])
def test_a_calibrated_training_is_the_one_that_was_given_the_factors(
    method: str, setup: TrainingSetup, teacher: TeacherOutputs
) -> None:
    """Bit for bit: batches, dropout and statistics go on as if nothing had been tried out."""
    long = replace(setup, schedule=replace(setup.schedule, epochs=20, warmup=0.4))
    steps = setup.source.steps_per_epoch(32)

    def trained(kind: type[Training], *, calibrated: bool) -> Training:
        training = kind(
            net(4, seed=1, dropout=0.2), [teacher], make_method(method), replace(long, calibrated=calibrated), net
        )
        training.run(SETTLED // steps + 2)
        return training

    calibrated = trained(Recording, calibrated=True)
    found = calibrated.__dict__["found"]
    assert list(found) == [(0, 0), divmod(10 * steps, steps)]
    assert len(set(found.values())) == 2
    assert 1 not in found.values()
    Given.factors = found
    plain = trained(Training, calibrated=False)
    assert plain.calibration()[method] == 1
    assert plain.grad_ratios == {}
    states = [t.student.state_dict() for t in (calibrated, trained(Given, calibrated=True), plain)]
    assert all(torch.equal(v, states[1][k]) for k, v in states[0].items())
    assert not all(torch.equal(v, states[2][k]) for k, v in states[0].items())


def test_the_ratio_reached_is_kept_in_checkpoints(setup: TrainingSetup, teacher: TeacherOutputs) -> None:
    """A training that is interrupted behind its second calibration knows what was reached."""
    long = replace(setup, schedule=replace(setup.schedule, epochs=20))
    until = SETTLED // setup.source.steps_per_epoch(32) + 1

    def started() -> Training:
        return Training(net(4, seed=1), [teacher], make_method("similarity", strength=0.3), long, net)

    first, second = started(), started()
    first.run(until)
    assert first.grad_ratios == pytest.approx({"similarity": 0.3 * Similarity.target_grad_ratio}, rel=1e-5)
    second.restore(first.state())
    assert second.grad_ratios == first.grad_ratios
    assert second.calibration() == first.calibration()


@pytest.mark.parametrize(
    ("epochs", "warmup", "restarts", "steps_per_epoch", "want"),
    [
        (30, 0.1, (), 100, (0, 300)),
        (30, 0.1, (10,), 100, (0, 100)),  # the warm-up is a share of the first cycle
        (30, 0.1, (3, 10), 100, (0, SETTLED)),
        (30, 0.1, (3, 10), 20, (0, 30)),  # no later than in the middle of the first cycle
        (30, 0.0, (), 100, (0, SETTLED)),
        (3, 0.8, (1,), 20, (0, 16)),
        (3, 0.99, (1,), 20, (0, 19)),  # before the first cycle ends in any case
        (1, 0.1, (), 1, (0,)),
    ],
)
def test_it_is_calibrated_at_the_start_and_when_the_warm_up_is_over(
    epochs: int, warmup: float, restarts: tuple[int, ...], steps_per_epoch: int, want: tuple[int, ...]
) -> None:
    schedule = Schedule(epochs, 32, 0.1, 0.9, 5e-4, warmup, 0.2, 5.0, restarts)
    assert calibration_steps(schedule, steps_per_epoch) == want
