"""One's own student and teacher: what is learnt, what is left alone, and that a seed decides everything."""

import doctest
import random
from collections.abc import Sequence
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, TensorDataset

from nas_kd.commands import distill_modules
from nas_kd.commands.distill_modules import distill
from nas_kd.context.callbacks import EpochEnd
from nas_kd.engine.numerics import mix_seeds
from nas_kd.errors import CallbackError, InputError, TrialError
from nas_kd.methods.base import Batch, Method, Outputs
from nas_kd.methods.combine import make_method
from nas_kd.methods.relation.crd import ContrastiveKD
from nas_kd.methods.response.soft_targets import SoftTargets

from .toys import CLASSES, Batches, Items, Log, N, Net, accuracy, net, same, samples, state, trained

ALONE = ("none", "dml", "bake", "born_again", "one")


def test_the_student_is_trained_in_place_and_learns(teacher: Net) -> None:
    student = net()
    returned = distill(student, teacher, train=samples(), val=samples(48, seed=1), epochs=15, batch_size=16)
    assert returned is student
    assert not any(module.training for module in student.modules())
    assert accuracy(student, *samples(300, seed=2)) > 0.8
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in student.modules())
    assert all(p.is_contiguous() for p in student.parameters())


def test_the_teacher_is_left_as_it_was() -> None:
    teacher = net(12, seed=9).train()
    teacher.body[1].eval()
    teacher.head.weight.requires_grad_(False)
    teacher.head.bias.grad = torch.ones(CLASSES)
    seen: list[int] = []
    teacher.register_forward_hook(lambda *_: seen.append(1))
    before, modes = state(teacher), [m.training for m in teacher.modules()]
    requires, layout = [p.requires_grad for p in teacher.parameters()], [p.stride() for p in teacher.parameters()]

    def check() -> None:
        assert same(before, state(teacher))
        assert modes == [m.training for m in teacher.modules()]
        assert requires == [p.requires_grad for p in teacher.parameters()]
        assert layout == [p.stride() for p in teacher.parameters()]
        assert torch.equal(teacher.head.bias.grad, torch.ones(CLASSES))
        assert [p.grad is None for p in teacher.parameters()].count(False) == 1
        assert sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in teacher.modules()) == 1

    for method in ("soft_targets", "fitnet", "dafl"):
        trained(teacher, samples(), method, epochs=1)
        check()
    with pytest.raises(CallbackError):
        trained(teacher, samples(), "similarity", callbacks=[Log(ValueError())])
    check()
    with pytest.raises(InputError):
        trained(teacher, (samples()[0], torch.full((N,), 7)))
    check()
    assert seen


def test_generators_and_threads_are_as_before(teacher: Net) -> None:
    noisy = Items(samples()[0], samples()[1], noise=0.1)
    torch.set_num_threads(2)
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    for train in (samples(), noisy, DataLoader(noisy, 32, shuffle=True)):
        trained(teacher, train, val=train, threads=1)
    with pytest.raises(CallbackError):
        trained(teacher, noisy, callbacks=Log(ValueError()))
    assert torch.get_num_threads() == 2
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (np.random.get_state()[1].tolist(), random.getstate())
    assert float(torch.tensor(1e-310, dtype=torch.float64) * 1) > 0  # denormals count again


@pytest.mark.parametrize("method", ["soft_targets", "crd", "bake", "dml", "born_again", "dafl", "soft_targets+fitnet"])
def test_a_seed_decides_everything(method: str, teacher: Net) -> None:
    run = partial(trained, None if method in ALONE else teacher, samples(), method, augment={"crop": 1})
    torch.manual_seed(1)
    first = run(seed=3)
    torch.manual_seed(2)
    assert same(first, run(seed=3))
    assert not same(first, run(seed=4))


def test_random_transforms_and_shuffling_follow_the_seed(teacher: Net) -> None:
    noisy = Items(*samples(), noise=0.3)
    for train in (noisy, DataLoader(noisy, 32, shuffle=True)):
        runs = []
        for seed in (3, 3, 4):
            np.random.seed(len(runs))
            torch.manual_seed(len(runs))
            runs.append(trained(teacher, train, seed=seed))
        assert same(runs[0], runs[1])
        assert not same(runs[0], runs[2])


@pytest.mark.parametrize("method", ["soft_targets", "fitnet", "crd", "bake"])
def test_a_data_set_is_as_good_as_arrays(method: str, teacher: Net) -> None:
    """Bit for bit: the order of samples is the same, and a live teacher gives what a cached one gives."""
    given = None if method in ALONE else teacher
    x, y = samples()
    arrays = trained(given, (x, y), method)
    assert same(arrays, trained(given, Items(x, y), method))
    assert same(arrays, trained(given, TensorDataset(x, y), method))
    assert same(arrays, trained(given, (x.numpy().astype(np.float64), y.numpy().tolist()), method))


def test_a_loader_with_the_same_batches_is_as_good_as_arrays(teacher: Net) -> None:
    """Bit for bit, calibration included."""
    x, y = samples()
    order = torch.randperm(N, generator=torch.Generator().manual_seed(mix_seeds(0, 2, 0)))
    batches = Batches([(x[part], y[part]) for part in order.split(16)])
    options = {"epochs": 1, "method": "soft_targets+similarity", "batch_size": 16}
    assert same(trained(teacher, (x, y), **options), trained(teacher, batches, **options))


def test_a_loader_is_read_once_an_epoch_and_validation_when_it_is_asked_for(teacher: Net) -> None:
    x, y = samples()
    train, val = (Batches([(x[part], y[part]) for part in torch.arange(N).split(20)]) for _ in range(2))
    trained(teacher, train, "soft_targets", val=val, epochs=3)
    assert train.passes == 3
    assert val.passes == 1  # its first batch is looked at before training

    class Reading(Log):
        def on_epoch_end(self, event: EpochEnd) -> None:
            assert event.epoch == 2 or event.val_accuracy is not None

    trained(teacher, train, "soft_targets", val=val, epochs=3, callbacks=Reading())
    assert val.passes == 1 + 1 + 2


def test_a_last_batch_with_one_sample_is_left_out(teacher: Net) -> None:
    x, y = samples()
    shown: list[int] = []
    student = net()
    student.register_forward_hook(lambda module, given, _: shown.append(len(given[0])) if module.training else None)
    data = TensorDataset(x[:65], y[:65])
    for loader in (DataLoader(data, 32), DataLoader(data, batch_sampler=BatchSampler(range(65), 32, False))):
        shown.clear()
        distill(student, teacher, train=loader, epochs=2, calibrate=False)
        assert shown == [32] * 4


def test_token_ids_stay_whole_numbers() -> None:
    class Words(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(20, width), nn.Linear(width, 2)

        def forward(self, ids: Tensor) -> Tensor:
            out: Tensor = self.head(self.table(ids).mean(dim=1))
            return out

    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 20, (200, 6), generator=generator)
    y = (ids == 3).any(dim=1).long()
    teacher = distill(Words(16), train=(ids, y), method="none", epochs=40, batch_size=16, learning_rate=1.0)
    student = distill(Words(4), teacher, train=(ids.numpy(), y), epochs=40, batch_size=16, learning_rate=1.0)
    assert accuracy(student, ids, y) > 0.9
    loader = DataLoader(TensorDataset(ids, y), 16)
    distill(Words(4), teacher, train=loader, val=loader, method="rkd", epochs=1)


class Shift(Method):
    """A user's own method, with a parameter of its own."""

    name, source, summary = "shift", "2024", "logits near the teacher's, up to a learnt shift"

    def __init__(self, temperature: float | None = None, strength: float = 1.0) -> None:
        super().__init__(temperature, strength)
        self.shift = nn.Parameter(torch.zeros(CLASSES))

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        return {"shift": (student.logits + self.shift - teachers[0].logits).square().mean()}


def test_methods_by_name_class_and_instance(teacher: Net) -> None:
    by_name = trained(teacher, samples(), "soft_targets", temperature=2.0, strength=3.0)
    assert same(by_name, trained(teacher, samples(), SoftTargets, temperature=2.0, strength=3.0))
    assert same(by_name, trained(teacher, samples(), SoftTargets(2.0, 3.0)))
    assert not same(by_name, trained(teacher, samples(), "soft_targets"))
    own = Shift()
    trained(teacher, samples(), own)
    assert own.shift.abs().min() > 0
    crd = ContrastiveKD()
    assert same(*(trained(teacher, samples(), crd) for _ in range(2)))  # an instance can be used again


def test_calibration_can_be_left_out(teacher: Net) -> None:
    published, calibrated = SoftTargets(), SoftTargets()
    trained(teacher, samples(), published, calibrate=False)
    trained(teacher, samples(), calibrated)
    assert float(published.scale) == 1
    assert float(calibrated.scale) != 1


def test_several_teachers(teacher: Net) -> None:
    other = net(8, seed=5)
    both = trained([teacher, other], samples(), "average_teachers")
    assert not same(both, trained([teacher, teacher], samples(), "average_teachers"))


def test_the_best_of_several_networks_is_returned_if_there_is_validation() -> None:
    """Validation labels are what one of the peers says, so that it is the most accurate."""
    x, _ = samples()
    method = make_method("dml")
    alone = trained(None, samples(), method)
    peer = method.peers()[1]
    with torch.no_grad():
        says = peer.eval()(x).argmax(dim=1)
    with_validation = trained(None, samples(), "dml", val=(x, says))
    assert not same(alone, with_validation)
    assert same(state(peer), with_validation)


def test_generations_start_from_weights_of_their_own() -> None:
    log = Log()
    trained(None, samples(), "born_again", callbacks=log)
    assert log.stages == ["training generation 1 of 2", "training generation 2 of 2", "training student"]
    assert len({tuple(sorted(e.losses.items())) for e in log.epochs}) == len(log.epochs) == 6
    assert [set(e.losses) for e in log.epochs] == [{"ce"}] * 2 + [{"ce", "born_again"}] * 4


def test_frozen_layers_keep_their_weights_in_the_student_and_in_its_peers() -> None:
    student = net()
    student.body.requires_grad_(False)
    before = {k: v.clone() for k, v in student.body.named_parameters()}
    method = make_method("dml")
    distill(student, train=samples(), method=method, epochs=1)
    for network in (student, *method.peers()):
        own = dict(network.get_submodule("body").named_parameters())
        assert all(torch.equal(own[k], v) for k, v in before.items())
    assert not torch.equal(student.head.weight, method.peers()[0].get_submodule("head").weight)


def test_a_loss_that_is_not_finite_is_a_failed_training(teacher: Net) -> None:
    with pytest.raises(TrialError, match=r"the loss became (nan|inf) in epoch \d+ of 5"):
        distill(net(), teacher, train=samples(), epochs=5, learning_rate=1e30)


def test_gradients_are_on_whatever_the_caller_does(teacher: Net) -> None:
    expected = trained(teacher, samples())
    with torch.no_grad():
        assert same(expected, trained(teacher, samples()))
    student, train = net(), samples()
    with torch.inference_mode():
        distill(student, teacher, train=train, epochs=2, batch_size=32)
    assert same(expected, state(student))


def test_the_example_of_the_documentation() -> None:
    results = doctest.testmod(distill_modules)
    assert results.attempted == 6
    assert results.failed == 0


def test_half_precision_arithmetic(teacher: Net) -> None:
    fp32, bf16 = (trained(teacher, samples(), precision=precision) for precision in ("fp32", "bf16"))
    assert not same(fp32, bf16)
    assert all(v.dtype == fp32[k].dtype for k, v in bf16.items())
