"""Data-free methods: losses in closed form, statistics, and students that never see a training sample."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas_kd.data.augment import Augmenter
from nas_kd.engine.batch_source import ArrayBatches
from nas_kd.engine.teacher_outputs import Teacher, TeacherOutputs
from nas_kd.engine.training import Training, TrainingSetup
from nas_kd.errors import InputError
from nas_kd.methods.base import Batch, Outputs
from nas_kd.methods.combine import make_method
from nas_kd.methods.data_free.dafl import DAFL, LATENT, Generator
from nas_kd.methods.data_free.deep_inversion import DeepInversion, agreement
from nas_kd.methods.data_free.synthetic_images import (
    CriticOutput,
    ImageBank,
    batchnorm_layers,
    bn_distance,
    random_roll,
    run_with_bn_distance,
)
from nas_kd.models.blocks import BatchNorm

from .conftest import FP32, LARGER, SMALL, build, decided, digits, setup_of, training_of
from .toys import kl, outputs, softmax

NAMES = ("dafl", "deep_inversion")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _few_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the pictures are good for is another test's question."""
    for method, attribute, value in (
        (DAFL, "batch_size", 24),
        (DeepInversion, "images_per_round", 32),
        (DeepInversion, "iterations", 20),
    ):
        monkeypatch.setattr(method, attribute, value)


def never() -> Batch:
    raise AssertionError("a data-free method asked for training samples")


def started(name: str, setup: TrainingSetup | None = None) -> Training:
    return training_of(make_method(name), "resnet", "resnet", setup or setup_of())


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {k: v.detach().clone() for k, v in module.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize(("b", "c"), [(2, 3), (7, 10)])
def test_dafl_generator_loss(b: int, c: int) -> None:
    o = outputs(0, b, c, embedding=5)
    p, e = softmax(o.logits.numpy(), 1.0), o.embedding.numpy()
    mean = p.mean(axis=0)
    expected = -np.log(p.max(axis=1)).mean() + 5 * (mean * np.log10(mean)).sum() - 0.1 * np.abs(e).mean() + 0.7
    loss = DAFL().generator_loss(CriticOutput(o, torch.tensor(0.7, dtype=torch.float64)))
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_dafl_generator_loss_survives_a_teacher_that_is_certain() -> None:
    logits = torch.tensor([[500.0, 0.0, 0.0], [500.0, 0.0, 0.0]], requires_grad=True)
    loss = DAFL().generator_loss(CriticOutput(Outputs(logits, (), logits), torch.zeros(())))
    loss.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("shape", [(2, 1, 3, 2), (5, 3, 4, 4)])
def test_inversion_picture_loss(shape: tuple[int, ...]) -> None:
    x = torch.from_numpy(np.random.default_rng(3).normal(size=shape))
    o, y = outputs(0, shape[0], 4), torch.arange(shape[0]) % 4
    a, p = x.numpy(), softmax(o.logits.numpy(), 1.0)
    variation = ((a[:, :, 1:] - a[:, :, :-1]) ** 2).mean() + ((a[..., 1:] - a[..., :-1]) ** 2).mean()
    expected = -np.log(p[np.arange(len(p)), y.numpy()]).mean() + 0.7 + 0.01 * variation + 0.01 * (a**2).mean()
    loss = DeepInversion().image_loss(x, y, CriticOutput(o, torch.tensor(0.7, dtype=torch.float64)))
    assert loss.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("b", "c"), [(2, 3), (6, 10)])
def test_agreement_is_one_minus_the_jensen_shannon_divergence(b: int, c: int) -> None:
    z, w = outputs(0, b, c).logits, outputs(1, b, c).logits
    p, q = softmax(z.numpy(), 1.0), softmax(w.numpy(), 1.0)
    middle = (p + q) / 2
    assert agreement(z, w).item() == pytest.approx(1 - (kl(p, middle) + kl(q, middle)) / 2, rel=1e-6)
    assert agreement(z, z).item() == pytest.approx(1)
    assert torch.autograd.gradcheck(agreement, (z.requires_grad_(), w.requires_grad_()))


@pytest.mark.parametrize("name", NAMES)
def test_the_student_learns_from_the_divergence_alone(name: str) -> None:
    s, t = outputs(0, 4, 5), outputs(1, 4, 5)
    method = make_method(name, temperature=3.0)
    terms = method(s, [t], Batch(torch.zeros(4, 1, 2, 2), torch.zeros(4, dtype=torch.int64), torch.arange(0), 1.0))
    assert {k: v.item() for k, v in terms.items()} == pytest.approx(
        {name: 9 * kl(softmax(t.logits.numpy(), 3.0), softmax(s.logits.numpy(), 3.0))}
    )
    assert (method.ce_weight, method.target_grad_ratio, method.teachers) == (0, None, "one")


@pytest.mark.parametrize("shape", [(4, 3, 5, 2), (2, 3), (6, 3, 4)])
def test_distance_of_statistics(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    x, mean, variance = rng.normal(size=shape), rng.normal(size=3), rng.uniform(0.5, 2, size=3)
    axes = tuple(i for i in range(len(shape)) if i != 1)
    expected = np.sqrt(((x.mean(axis=axes) - mean) ** 2).mean()) + np.sqrt(((x.var(axis=axes) - variance) ** 2).mean())
    got = bn_distance(*(torch.from_numpy(v) for v in (x, mean, variance)))
    assert got.item() == pytest.approx(expected, rel=1e-5)


def test_equal_statistics_have_distance_0_and_no_nan_in_the_gradient() -> None:
    x = torch.ones(4, 2, 3, 3, requires_grad=True)
    gap = bn_distance(x, torch.ones(2), torch.zeros(2))
    gap.backward()  # type: ignore[no-untyped-call]
    assert gap.item() == pytest.approx(0, abs=1e-5)
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def test_statistics_are_those_of_each_norms_input_and_no_hook_stays() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = BatchNorm(2), nn.BatchNorm2d(2)
            self.blind = nn.BatchNorm2d(2, track_running_stats=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.blind(torch.relu_(self.second(self.first(x) * 3)))  # type: ignore[no-any-return]

    net = Net().eval()
    assert batchnorm_layers(net) == [net.first, net.second]
    x = torch.randn(4, 2, 3, 3)
    result, total = run_with_bn_distance(net, lambda: net(x))
    zeros, ones = torch.zeros(2), torch.ones(2)
    assert total.item() == pytest.approx(
        (bn_distance(x, zeros, ones) + bn_distance(net.first(x) * 3, zeros, ones)).item()
    )
    assert torch.equal(result, net(x))
    assert not any(m._forward_pre_hooks for m in net.modules())
    with pytest.raises(RuntimeError):
        run_with_bn_distance(net, lambda: net(x[:, :1]))
    assert not any(m._forward_pre_hooks for m in net.modules())


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (2, 7, 5), (1, 1, 1), (4, 3, 30)])
def test_generator_makes_normalised_pictures_of_any_size(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x = Generator(shape).sample(16)
    assert x.shape == (16, *shape)
    torch.testing.assert_close(x.mean(dim=(0, 2, 3)), torch.zeros(shape[0]), atol=1e-4, rtol=0)
    torch.testing.assert_close(x.std(dim=(0, 2, 3), correction=0), torch.ones(shape[0]), atol=0.05, rtol=0)
    assert LATENT == 64


def test_the_bank_keeps_the_newest_and_draws_only_what_was_put_in() -> None:
    bank = ImageBank(4, (1, 1, 1))
    for number in range(1, 4):
        bank.put(torch.full((2, 1, 1, 1), float(number)), torch.full((2,), number))
        x, y = bank.draw(50)
        assert torch.equal(x.flatten(), y.float())
        assert set(y.tolist()) == ({1} if number == 1 else {number - 1, number})
    assert len(ImageBank(10**6, (3, 224, 224))) == 2**24 // (3 * 224 * 224)


def test_shifts_go_around_the_edges_by_an_eighth_of_the_side() -> None:
    torch.manual_seed(0)
    x = torch.arange(64.0).view(1, 1, 8, 8)
    seen = {tuple(random_roll(x).flatten().tolist()) for _ in range(100)}
    assert len(seen) == 9
    assert all(sorted(pixels) == x.flatten().tolist() for pixels in seen)
    assert torch.equal(random_roll(x[..., :7, :7]), x[..., :7, :7])


@pytest.mark.parametrize("name", NAMES)
def test_batches_are_made_up_in_stored_units_and_teacher_and_student_are_left_alone(name: str) -> None:
    training = started(name)
    student, teacher = training.student.train(), training._teachers[0].teacher.model
    before = weights(student), weights(teacher)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        batches = [training.method.draw(never) for _ in range(21)]
    x, data = torch.cat([b.x for b in batches]), digits()
    assert x.shape[1:] == data.input_shape
    assert x.mean().item() == pytest.approx(float(data.mean), abs=0.3 * float(data.std))
    assert 0.6 < x.std().item() / float(data.std) < 1.6
    assert all(len(b.indices) == 0 and b.indices.dtype == b.y.dtype == torch.int64 for b in batches)
    assert not x.requires_grad
    assert same(before[0], weights(student))
    assert same(before[1], weights(teacher))
    assert all(p.grad is None for net in (student, teacher) for p in net.parameters())
    assert all(m.training for m in student.modules())


@pytest.mark.parametrize("name", NAMES)
def test_training_samples_that_turn_to_garbage_change_nothing(name: str) -> None:
    setup = setup_of()
    noise = torch.randint(0, 256, setup.source.augmenter.x.shape, dtype=torch.uint8)
    garbage = Augmenter(noise, digits().mean, digits().augmentation.at("standard"), seed=9)
    students = []
    for given in (setup, replace(setup, source=ArrayBatches(garbage, setup.source.labels.flip(0)))):
        training = started(name, given)
        training.run()
        students.append(weights(training.averaged_students()[0]))
    assert same(*students)


def test_dafl_generator_is_trained_by_its_own_optimiser_alone() -> None:
    training = started("dafl")
    method = training.method
    assert method.trained() == []
    before = weights(method)
    training.run(1)
    assert not same(before, weights(method))
    assert {f"optimizer.{name}" for name in method.optimizers()} <= {key.split("/")[0] for key in training.state()}


def test_pictures_become_what_the_teacher_recognises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DeepInversion, "iterations", 60)
    job = training_of(make_method("none"), "resnet", "resnet", setup_of(n=640, epochs=15))
    job.run()
    method = under(job.averaged_students()[0], "deep_inversion", setup_of()).method
    assert isinstance(method, DeepInversion)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        noise = torch.randn(128, *digits().input_shape)
        x, y = method._invert(128)
    with torch.no_grad():
        made, unmade = method._critic(x), method._critic(noise)
    hits, chance = ((seen.outputs.logits.argmax(dim=1) == y).float().mean() for seen in (made, unmade))
    assert chance < 0.3
    assert hits > 0.6
    assert made.distance < 0.3 * unmade.distance


def test_the_bank_fills_in_pieces_and_is_then_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for attribute, value in (("bank_size", 8), ("images_per_round", 4), ("draws_per_round", 3), ("iterations", 2)):
        monkeypatch.setattr(DeepInversion, attribute, value)
    method: Any = started("deep_inversion").method
    added = []
    for _ in range(10):
        method.draw(never)
        added.append(int(method.bank.added))
    assert added == [4, 4, 4, 8, 8, 8, 8, 8, 8, 8]


class Plain(nn.Module):
    """No batch normalisation; `detached`: no gradient comes back, as from another runtime."""

    def __init__(self, detached: bool) -> None:
        super().__init__()
        self.head = nn.Linear(64, 10)
        self.detached = detached

    def forward(self, x: Tensor) -> Tensor:
        x = torch.from_numpy(x.numpy()) if self.detached else x
        return self.head(x.flatten(1) / 255)  # type: ignore[no-any-return]


def under(teacher: nn.Module, name: str, setup: TrainingSetup) -> Training:
    outputs_of = TeacherOutputs(Teacher(teacher, "0" * 64, "teacher", 1, 1), setup.source.augmenter, 32, FP32, None)
    return Training(build("resnet", SMALL, 1), [outputs_of], make_method(name), setup, lambda _: nn.Identity())


@pytest.mark.parametrize("name", NAMES)
def test_a_teacher_without_gradients_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"method '{name}' needs gradients through the teacher") as caught:
        under(Plain(detached=True), name, setup_of())
    assert "\n" not in str(caught.value)


def test_a_teacher_without_batch_normalisation_is_refused_by_inversion_alone() -> None:
    with pytest.raises(InputError, match="needs a teacher with batch normalisation"):
        under(Plain(detached=False), "deep_inversion", setup_of())
    training = under(Plain(detached=False), "dafl", setup_of())
    training.run(1)
    assert training.losses["dafl"] > 0


@pytest.mark.parametrize("name", NAMES)
def test_samples_that_are_no_images_are_refused(name: str) -> None:
    setup, x = setup_of(), torch.rand(64, 64)
    still = digits().augmentation.at("none")
    facts = replace(setup.dataset, mean=torch.zeros(1), std=torch.ones(1))
    numerics = replace(FP32, channels_last=False)
    flat = replace(
        setup,
        source=ArrayBatches(Augmenter(x, torch.zeros(1), still, 0), setup.source.labels),
        dataset=facts,
        numerics=numerics,
    )
    teacher = Teacher(nn.Linear(64, 10), "0" * 64, "teacher", 1, 1)
    outputs_of = TeacherOutputs(teacher, flat.source.augmenter, 32, numerics, None)
    with pytest.raises(InputError, match=r"makes up images \(C, H, W\); the samples have shape \(64,\)"):
        Training(nn.Linear(64, 10), [outputs_of], make_method(name), flat, lambda _: nn.Identity())


def test_the_teacher_may_be_of_another_family() -> None:
    training = under(decided(build("mobilenet", LARGER, 3)), "deep_inversion", setup_of())
    training.run(1)
    assert np.isfinite(list(training.losses.values())).all()
