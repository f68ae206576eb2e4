"""Every method teaches: on handwritten digits, calibrated, over paired seeds.

One student, one schedule, each method with its defaults. No gain is asked for (data this easy leaves hardly any), only
that no method stands in the way: at least the accuracy of `none`, less one point.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from nas_kd.config.options import Augmentation
from nas_kd.data.augment import Augmenter
from nas_kd.data.dataset import Split
from nas_kd.engine.batch_source import ArrayBatches
from nas_kd.engine.evaluation import accuracy_of
from nas_kd.engine.method_setup import DatasetInfo
from nas_kd.engine.schedule import Schedule
from nas_kd.engine.teacher_outputs import Teacher, TeacherOutputs
from nas_kd.engine.training import Training, TrainingSetup
from nas_kd.methods.base import Method
from nas_kd.methods.combine import make_method
from nas_kd.plugins import available

from .conftest import FP32, build, digits

SEEDS = (0, 1)
PAIRED_SEEDS = (0, 1, 2)  # a better accuracy is asked for, not just no worse one
DATA_FREE_SEEDS = (0,)  # far above their goal on every seed, and six times as slow as the others
TRAIN = 640  # samples; the other 1,157 judge, 269 of them which peer is deployed
SCHEDULE = Schedule(15, 64, 0.1, 0.9, 5e-4, 0.1, 0.1, 5.0)
TEACHER_EPOCHS = 30
DATA_FREE_EPOCHS = 36  # of made-up samples, which a generator learns to make at the same time
ALLOWED_LOSS, DATA_FREE_GOAL = 0.01, 0.90
STUDENT = {
    "resnet": {
        **{"stem_stride": 1, "width_1": 8, "depth_1": 0, "kernel_1": 1},
        **{"width_2": 16, "depth_2": 1, "kernel_2": 3, "width_3": 32, "depth_3": 1, "kernel_3": 3},
    }
}
TEACHER = {"resnet": STUDENT["resnet"] | {"width_1": 16, "width_2": 32, "width_3": 64}}
METHODS = {name: make_method(name) for name in (*available("method"), "soft_targets+similarity")}
DATA_FREE = [name for name, method in METHODS.items() if "network" in method.needs]
PAIRED = [name for name, method in METHODS.items() if "pairs" in method.needs]
USUAL = [name for name in METHODS if name not in {"none", *DATA_FREE, *PAIRED}]
Samples = tuple[Split, Split, Split]
Seeds = tuple[int, ...]

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


@cache
def samples(degraded: bool = False) -> Samples:
    """Training, validation and test samples, as they are or as a poor sensor has them."""
    data = digits()
    rest = Split(torch.cat([data.train.x[TRAIN:], data.test.x]), torch.cat([data.train.y[TRAIN:], data.test.y]))
    train = Split(data.train.x[:TRAIN], data.train.y[:TRAIN])
    splits = (train, data.val, rest)
    if not degraded:
        return splits
    first, second, third = (Split(poor(s.x, i), s.y) for i, s in enumerate(splits))
    return first, second, third


def poor(x: Tensor, seed: int) -> Tensor:
    """A quarter of the pixels, and noise over them: grey levels with a standard deviation of 30."""
    coarse = interpolate(avg_pool2d(x.float(), 2), scale_factor=2)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)) * 30
    return (coarse + noise).clamp(0, 255).round().to(torch.uint8)


@cache
def augmenter(degraded: bool = False) -> Augmenter:
    """Both kinds of samples are shifted alike."""
    return Augmenter(samples(degraded)[0].x, digits().mean, Augmentation(crop=1, flip=False, cutout=0), seed=0)


def trained(
    method: Method, teachers: Sequence[TeacherOutputs], seed: int, degraded: bool = False, epochs: int | None = None
) -> Training:
    data = digits()
    setup = TrainingSetup(
        source=ArrayBatches(augmenter(degraded), samples()[0].y),
        dataset=DatasetInfo(TRAIN, data.n_classes, data.mean, data.std),
        schedule=replace(SCHEDULE, epochs=epochs or SCHEDULE.epochs),
        numerics=FP32,
        seed=seed,
    )
    rebuild = partial(build, "resnet", STUDENT)
    training = Training(rebuild(seed), teachers, method, setup, rebuild)
    training.run()
    return training


def as_teacher(model: nn.Module, number: int) -> TeacherOutputs:
    teacher = Teacher(model, f"{number:064d}", "teacher", 1, 1)
    return TeacherOutputs(teacher, augmenter(), SCHEDULE.batch_size, FP32, None)


@cache
def teacher(number: int) -> TeacherOutputs:
    """Trained once for all students; three of them where a method learns from several."""
    data = digits()
    rebuild = partial(build, "resnet", TEACHER)
    facts = DatasetInfo(TRAIN, data.n_classes, data.mean, data.std)
    schedule = replace(SCHEDULE, epochs=TEACHER_EPOCHS)
    setup = TrainingSetup(ArrayBatches(augmenter(), samples()[0].y), facts, schedule, FP32, 50 + number)
    training = Training(rebuild(50 + number), [], make_method("none"), setup, rebuild)
    training.run()
    return as_teacher(training.averaged_students()[0], number)


def taught(name: str, seed: int, degraded: bool = False, epochs: int | None = None) -> float:
    """Test accuracy of the deployed network, 0..1."""
    method = make_method(name)
    teachers = [teacher(i) for i in range({"none": 0, "one": 1, "several": 3}[method.teachers])]
    for generation in range(method.generations):
        first = make_method("none" if generation == 0 else name)
        older = trained(first, teachers if generation else [], seed + 100 * (generation + 1))
        teachers = [as_teacher(older.averaged_students()[0], 100)]
    _, val, test = samples(degraded)
    network, _ = trained(method, teachers, seed, degraded, epochs).deployed(val)
    return accuracy_of(network, test, FP32)


@cache
def alone(seeds: Seeds = SEEDS, degraded: bool = False) -> float:
    """Mean accuracy of the same student trained on the labels alone for the same time."""
    return sum(taught("none", seed, degraded) for seed in seeds) / len(seeds)


def mean_accuracy(name: str, seeds: Seeds = SEEDS, degraded: bool = False, epochs: int | None = None) -> float:
    accuracies = [taught(name, seed, degraded, epochs) for seed in seeds]
    mean = sum(accuracies) / len(seeds)
    print(f"accuracy {name} {mean:.4f} none {alone(seeds, degraded):.4f} seeds {[round(a, 4) for a in accuracies]}")
    return mean


def test_there_is_something_to_learn() -> None:
    """The control learns, and the teacher knows more: the figures that all others are compared with."""
    test = samples()[2]
    assert alone() > 0.9
    assert accuracy_of(teacher(0).teacher.model, test, FP32) > alone()


@pytest.mark.parametrize("name", USUAL)
def test_it_teaches_as_well_as_the_labels_alone(name: str) -> None:
    assert mean_accuracy(name) >= alone() - ALLOWED_LOSS


@pytest.mark.parametrize("name", DATA_FREE)
def test_without_any_training_sample(name: str) -> None:
    assert mean_accuracy(name, DATA_FREE_SEEDS, epochs=DATA_FREE_EPOCHS) >= DATA_FREE_GOAL


@pytest.mark.parametrize("name", PAIRED)
def test_a_clean_view_teaches_the_student_of_a_poor_one(name: str) -> None:
    assert mean_accuracy(name, PAIRED_SEEDS, degraded=True) > alone(PAIRED_SEEDS, degraded=True)
