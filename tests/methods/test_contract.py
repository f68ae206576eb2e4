"""What every method must hold, whichever they are: run over all that the plug-in folder shows, on real networks."""

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nas_kd.data.augment import Augmenter
from nas_kd.engine.batch_source import ArrayBatches
from nas_kd.errors import InputError
from nas_kd.methods.base import Batch, Method
from nas_kd.methods.combine import make_method
from nas_kd.plugins import available
from nas_kd.store.store import Store

from .conftest import (
    BF16,
    CASES,
    PAIRS,
    SMALL,
    STILL,
    Pair,
    build,
    digits,
    each_method,
    each_pair,
    finished,
    hasty,
    other_view,
    same,
    setup_of,
    started,
    state_of,
    uninterrupted,
)

pytestmark = pytest.mark.usefixtures("one_thread")

# Without batch normalisation there are no statistics to invert; blocks of one resolution are one stage, not two.
NO_TOKENS = {"deep_inversion", "byot", "fsp"}
each_class = pytest.mark.parametrize(("name", "method"), available("method").items())


@each_class
def test_a_class_says_what_it_is(name: str, method: type[Method]) -> None:
    assert name == method.name == method.__module__.rpartition(".")[2]
    assert re.search(r"\b(19|20)\d\d\b", method.source) or name == "none"
    assert 10 <= len(method.summary) <= 110
    assert "\n" not in method.summary
    assert method.teachers in {"none", "one", "several"}
    assert set(method.tunable) <= {"temperature", "strength"}
    assert method.needs <= {"logits", "features", "embedding", "indices", "network", "pairs"}
    assert method.ce_weight >= 0
    assert method.target_grad_ratio is None or method.target_grad_ratio > 0
    assert method.train_cost_factor >= 1
    assert method.generations >= 0
    assert method.generations == 0 or method.teachers == "one"


@each_class
def test_both_parameters_of_the_search_are_taken(name: str, method: type[Method]) -> None:
    made = method(3.0, 0.5)
    assert (made.temperature, made.strength) == (3.0, 0.5)
    assert make_method(name).temperature == method.default_temperature


@each_pair
@each_method
def test_attaching_leaves_student_teachers_and_chance_alone(name: str, pair: Pair) -> None:
    torch.manual_seed(0)
    chance = torch.get_rng_state()
    training = started(name, pair, setup_of())
    assert torch.equal(chance, torch.get_rng_state())
    assert same(state_of(training.student), state_of(build(pair[0], SMALL, 1)))
    own = {id(p) for p in training.method.parameters()}
    others = [training.student, *(t.teacher.model for t in training._teachers)]
    assert not own & {id(p) for network in others for p in network.parameters()}


@pytest.mark.parametrize("equal", [True, False], ids=["equal samples", "samples"])
@each_method
def test_batches_of_two(name: str, equal: bool) -> None:
    setup = setup_of(n=5, batch_size=2, epochs=1)
    if equal:
        x = setup.source.augmenter.x[:1].expand(5, -1, -1, -1).clone()
        augmenter = Augmenter(x, digits().mean, STILL, 0)
        setup = replace(setup, source=ArrayBatches(augmenter, torch.tensor([3, 3, 3, 7, 7])))
    training = finished(name, PAIRS[0], setup)  # fails on a loss that is not finite
    assert all(torch.isfinite(t).all() for t in training.state().values())


@each_pair
@each_method
def test_a_checkpoint_changes_nothing_and_another_seed_all(name: str, pair: Pair, tmp_path: Path) -> None:
    store, key = Store(tmp_path), "a" * 64
    first = started(name, pair, setup_of())
    first.run(until=1)
    store.save("checkpoint", key, first.state(), {})
    torch.manual_seed(12345)  # whatever happened in between
    second = started(name, pair, setup_of())
    entry = store.load("checkpoint", key)
    assert entry is not None
    second.restore(entry.tensors)
    second.run()
    whole = uninterrupted(name, pair).state()
    resumed = second.state()
    assert whole.keys() == resumed.keys()
    different = [k for k, v in whole.items() if k != "progress/seconds" and not torch.equal(v, resumed[k])]
    assert different == []
    other = started(name, pair, setup_of(seed=6))
    other.run(until=1)
    assert not same(state_of(first.student), state_of(other.student))


@each_method
def test_state_keeps_its_names_and_shapes(name: str) -> None:
    """What a checkpoint holds is put back into a method that was only attached."""
    before = started(name, PAIRS[0], setup_of()).method.state_dict()
    after = uninterrupted(name, PAIRS[0]).method.state_dict()
    assert {k: (v.shape, v.dtype) for k, v in before.items()} == {k: (v.shape, v.dtype) for k, v in after.items()}


@each_pair
@each_method
def test_bf16(name: str, pair: Pair) -> None:
    training = finished(name, pair, replace(setup_of(epochs=1), numerics=BF16))
    assert all(torch.isfinite(t).all() for t in training.state().values())
    assert {t.dtype for t in training.average} == {torch.float32}


@each_method
def test_teachers_stay_as_they_were(name: str) -> None:
    training = started(name, PAIRS[0], setup_of(epochs=1))
    teachers = [t.teacher.model for t in training._teachers]
    before = [state_of(t) for t in teachers]
    training.run()
    assert all(same(a, state_of(t)) for a, t in zip(before, teachers, strict=True))
    assert all(p.grad is None and not p.requires_grad for t in teachers for p in t.parameters())
    assert not any(m.training for t in teachers for m in t.modules())


@each_pair
@each_method
def test_all_parameters_learn(name: str, pair: Pair) -> None:
    """The student's and the method's own: each gets a gradient that is not zero, in some step."""
    training = started(name, pair, setup_of())
    kinds = {"student": training.student, "method": training.method}
    reached = set()
    for kind, module in kinds.items():
        for path, parameter in module.named_parameters():

            def note(gradient: Tensor, path: str = f"{kind} {path}") -> None:
                if gradient.any():
                    reached.add(path)

            parameter.register_hook(note)  # type: ignore[no-untyped-call]
    training.run()
    wanted = {f"{kind} {path}" for kind, m in kinds.items() for path, p in m.named_parameters() if p.requires_grad}
    assert wanted - reached == set()


@each_method
def test_terms(name: str) -> None:
    training = uninterrupted(name, PAIRS[0])
    terms = set(training.losses) - {"ce"}
    assert training.method.unscaled_terms <= terms
    assert terms or name == "none"
    assert training.method.needs or name == "none" or training.method.teachers == "none"
    assert ("ce" in training.losses) == (training.method.ce_weight > 0)


@pytest.mark.parametrize("parameter", ["temperature", "strength"])
@each_class
def test_what_is_tunable_changes_the_student_and_nothing_else_does(
    name: str, method: type[Method], parameter: str
) -> None:
    setup = setup_of(epochs=2)
    low, high = (
        state_of(finished(name, PAIRS[0], setup, partial(hasty, name, **{parameter: value})).student)
        for value in (1.0, 3.0)
    )
    scales_the_whole_loss = parameter == "strength" and method.ce_weight == 0  # as the learning rate does, so no choice
    assert not same(low, high) or parameter not in method.tunable
    assert same(low, high) or parameter in method.tunable or scales_the_whole_loss


@each_method
def test_an_epoch_shows_every_sample_once(name: str) -> None:
    method = CASES[name]()
    for labels in (torch.arange(37) % 4, torch.zeros(6, dtype=torch.int64), torch.arange(5)):
        orders = [method.order(labels, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
        assert orders[0].sort().values.tolist() == list(range(len(labels)))
        assert torch.equal(orders[0], orders[1])
        assert len(labels) < 10 or not torch.equal(orders[0], orders[2])


@pytest.mark.parametrize("name", [n for n, make in CASES.items() if "network" in make().needs])
def test_data_free_methods_read_no_training_samples(name: str) -> None:
    class Secret(Augmenter):
        def batch(self, epoch: int, indices: Tensor) -> Tensor:
            raise AssertionError("a training sample was read")

    setup = setup_of(epochs=1)
    secret = Secret(setup.source.augmenter.x, digits().mean, digits().augment, 0)
    training = finished(name, PAIRS[0], replace(setup, source=ArrayBatches(secret, setup.source.labels - 100)))

    def real() -> Batch:
        raise AssertionError("a real batch was asked for")

    batch = training.method.draw(real)
    assert batch.x.shape[1:] == (1, 8, 8)
    assert batch.x.dtype == torch.float32
    assert batch.y.shape == batch.x.shape[:1]
    assert len(batch.indices) == 0


@each_method
def test_only_data_free_methods_make_up_samples(name: str) -> None:
    method = CASES[name]()
    if "network" not in method.needs:
        batch = Batch(torch.zeros(2, 1, 8, 8), torch.zeros(2), torch.arange(2), 0.0)
        assert method.draw(lambda: batch) is batch


@pytest.mark.parametrize("name", [n for n, make in CASES.items() if "pairs" in make().needs])
def test_the_teacher_sees_its_own_view_of_the_same_samples(name: str) -> None:
    training = started(name, PAIRS[0], setup_of(epochs=1))
    shown: list[tuple[Tensor, Tensor]] = []
    training.method.register_forward_pre_hook(lambda _, given: shown.append((given[1][0].logits, given[2].indices)))
    training.run()
    model, x = training._teachers[0].teacher.model, other_view(setup_of().source.augmenter.x).float()
    assert shown
    for logits, indices in shown:
        assert torch.allclose(logits, model(x[indices]), atol=1e-4)


@pytest.mark.parametrize("name", [n for n in CASES if n not in NO_TOKENS])
def test_tokens(name: str) -> None:
    """A user's own network without any feature map."""
    training = finished(name, ("tokens", "tokens"), setup_of(epochs=1))
    assert all(torch.isfinite(t).all() for t in training.average)


@pytest.mark.parametrize("name", [n for n in CASES if n in NO_TOKENS])
def test_what_cannot_work_on_tokens_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(InputError, match=f"^method '{name}' [^\n]+$"):
        started(name, ("tokens", "tokens"), setup_of(epochs=1))
