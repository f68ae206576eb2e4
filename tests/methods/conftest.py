"""Every method found, and real networks of the search spaces to try them on."""

from collections.abc import Iterator, Mapping
from functools import cache, partial

import pytest
import torch
from torch import nn

from nas_kd.config.options import Augmentation, DataOptions
from nas_kd.data.augment import Augmenter
from nas_kd.data.dataset import Dataset
from nas_kd.data.prepare import load_dataset
from nas_kd.engine.batch_source import ArrayBatches
from nas_kd.engine.method_setup import DatasetInfo
from nas_kd.engine.numerics import Numerics, seeded
from nas_kd.engine.schedule import Schedule
from nas_kd.engine.teacher_outputs import Teacher, TeacherOutputs
from nas_kd.engine.training import Training, TrainingSetup
from nas_kd.kd.chain_policies.dense import make_dense
from nas_kd.kd.chain_policies.residual import ResidualError
from nas_kd.methods.base import Method
from nas_kd.methods.combine import make_method
from nas_kd.models.wrappers import Normalized
from nas_kd.plugins import available
from nas_kd.results.candidate import Architecture
from nas_kd.testing.method_case import MakeMethod
from nas_kd.testing.toy_training import N_TEACHERS, ToySettings, ToyTraining, start

FP32 = Numerics(bf16=False, channels_last=True)
SUMS = ("soft_targets+similarity", "dkd+rkd", "attention_transfer+crd", "dml+soft_targets")
# Fewer steps to the same places: deep_inversion makes the first pictures in the first epoch, more in the second.
HASTE = {"deep_inversion": {"iterations": 3, "images_per_round": 32, "draws_per_round": 2}}
SMALL = {
    "resnet": {
        **{"stem_stride": 1, "width_1": 4, "depth_1": 1, "kernel_1": 1, "width_2": 8, "depth_2": 1, "kernel_2": 3},
        **{"width_3": 8, "depth_3": 1, "kernel_3": 1},
    },
    "mobilenet": {
        **{"stem_stride": 1, "stem_width": 4, "width_1": 4, "depth_1": 1, "expansion_1": 2, "kernel_1": 3},
        **{"squeeze_1": 0, "width_2": 8, "depth_2": 1, "expansion_2": 2, "kernel_2": 3, "squeeze_2": 1},
    },
}
LARGER = {
    "resnet": SMALL["resnet"] | {"width_1": 8, "depth_2": 2, "width_3": 16, "kernel_3": 3},
    "mobilenet": SMALL["mobilenet"] | {"stem_width": 8, "width_1": 8, "depth_2": 2, "width_2": 12},
}


@cache
def digits() -> Dataset:
    """The built-in handwritten digits."""
    return load_dataset(DataOptions(), seed=0)


def build(kind: str, choices: Mapping[str, Mapping[str, int]], seed: int) -> nn.Module:
    """A network of a search space: (B, 1, 8, 8) in stored units -> (B, 10)."""
    data = digits()
    with seeded(seed, 0):
        body = available("space")[kind].build(Architecture(kind, choices[kind]), data.input_shape, data.n_classes)
    return Normalized(body, data.mean, data.std)


def decided(network: nn.Module) -> nn.Module:
    """The network with opinions: at the start its logits are all but equal."""
    classifier = [m for m in network.modules() if isinstance(m, nn.Linear)][-1]
    with seeded(6), torch.no_grad():
        nn.init.normal_(classifier.weight)
    return network.eval()


def hasty(name: str, temperature: float | None = None, strength: float = 1.0) -> Method:
    """The method, in less time."""
    method = make_method(name, temperature, strength)
    for attribute, value in HASTE.get(name, {}).items():
        assert isinstance(getattr(method, attribute), int)
        setattr(method, attribute, value)
    return method


def residual(temperature: float | None, strength: float) -> Method:
    """As a chain makes it, but with the parameters that a search would choose."""
    method = ResidualError(taught=True)
    method.temperature, method.strength = method.temperature if temperature is None else temperature, strength
    method.tunable = ("temperature", "strength")
    return method


def makers() -> dict[str, MakeMethod]:
    """All that the contract is held by: every method found, sums of some, and those that learn from a whole chain."""
    made: dict[str, MakeMethod] = {name: partial(hasty, name) for name in (*available("method"), *SUMS)}
    made["dense fitnet"] = lambda temperature, strength: make_dense("fitnet", temperature, strength, N_TEACHERS)
    made["residual"] = residual
    return made


def setup_of(n: int = 64, batch_size: int = 32, epochs: int = 2, seed: int = 5) -> TrainingSetup:
    """The first `n` digits, shifted by up to a pixel."""
    data = digits()
    x, y = data.train.x[:n], data.train.y[:n]
    return TrainingSetup(
        source=ArrayBatches(Augmenter(x, data.mean, Augmentation(crop=1, flip=False, cutout=0), seed=0), y),
        dataset=DatasetInfo(n, data.n_classes, data.mean, data.std),
        schedule=Schedule(epochs, batch_size, 0.05, 0.9, 5e-4, 0.1, 0.2, 5.0),
        numerics=FP32,
        seed=seed,
    )


def teachers_of(method: Method, kind: str, setup: TrainingSetup) -> list[TeacherOutputs]:
    """None, one or three, as the method says."""
    count = {"none": 0, "one": 1, "several": N_TEACHERS}[method.teachers]
    return [
        TeacherOutputs(
            Teacher(decided(build(kind, LARGER, 100 + i)), f"{i:064d}", "teacher", 1, 1),
            setup.source.augmenter,
            setup.schedule.batch_size,
            setup.numerics,
            None,
        )
        for i in range(count)
    ]


def training_of(method: Method, student: str, teacher: str, setup: TrainingSetup) -> Training:
    """A training of a small student under larger teachers that has not begun."""
    rebuild = partial(build, student, SMALL)
    return Training(rebuild(1), teachers_of(method, teacher, setup), method, setup, rebuild)


MAKERS = makers()
each_method = pytest.mark.parametrize("name", MAKERS)


@cache
def trained(name: str) -> ToyTraining:
    """One epoch of two steps, for tests that look at the result only."""
    return start(MAKERS[name](None, 1.0), ToySettings(calibrated=False)).run(until=1)


@pytest.fixture(scope="session")
def one_thread() -> Iterator[None]:
    """Sums on several threads are slower on networks this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
