"""Trainings that take a fraction of a second: the only file of the contract checks that knows the training engine."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nas_kd.config.options import Augmentation
from nas_kd.data.augment import Augmenter
from nas_kd.data.dataset import Split
from nas_kd.engine.batch_source import ArrayBatches
from nas_kd.engine.method_setup import DatasetInfo
from nas_kd.engine.numerics import Numerics, seeded
from nas_kd.engine.schedule import Schedule
from nas_kd.engine.teacher_outputs import Teacher, TeacherOutputs
from nas_kd.engine.training import Training, TrainingSetup
from nas_kd.methods.base import Method
from nas_kd.models.wrappers import Normalized
from nas_kd.testing.rules import copied
from nas_kd.testing.toy_networks import SIDE, Family, toy_network, with_opinions

N_CLASSES = 4
N_TEACHERS = 3  # of a method that learns from several
SEED = 5
EPOCHS = 2
Pair = tuple[Family, Family]  # student, teacher
PAIRS: tuple[Pair, ...] = (("inverted", "residual"), ("residual", "inverted"))
TOKENS: Pair = ("tokens", "tokens")
MIXED: tuple[Pair, ...] = (("residual", "patches"), ("patches", "residual"))
_MEAN, _STD = torch.tensor([127.0]), torch.tensor([70.0])
_STILL = Augmentation(crop=0, flip=False, cutout=0)
_SHIFTED = Augmentation(crop=1, flip=False, cutout=0)


@dataclass(frozen=True)
class ToySettings:
    """How a toy training differs from the usual one of two epochs of two steps.

    Attributes:
        pair: families of student and teachers.
        samples: size of the training split.
        batch_size: of a step; samples that fill no batch are left out.
        seed: of order, initial weights of the method's own networks and all else that is drawn.
        bf16: run networks under bfloat16 autocast.
        calibrated: weigh the method's gradient against the labels', as searches do by default.
        equal: all samples are the same image; three in a row have the same label.
        secret: reading a training sample or its label raises an error.
    """

    pair: Pair = PAIRS[0]
    samples: int = 32
    batch_size: int = 16
    seed: int = SEED
    bf16: bool = False
    calibrated: bool = True
    equal: bool = False
    secret: bool = False


@dataclass(frozen=True)
class ToyTraining:
    """A training that has not begun, and the networks that teach in it.

    Attributes:
        training: the student is in `training.student`, the method in `training.method`.
        teachers: in eval mode, as the engine holds them.
        untouched_teachers: their states before the method was attached.
    """

    training: Training
    teachers: tuple[nn.Module, ...]
    untouched_teachers: tuple[dict[str, Tensor], ...]

    @property
    def student(self) -> nn.Module:
        """The network that learns; see `student_of` for what it was before."""
        return self.training.student

    @property
    def method(self) -> Method:
        """The attached method under test."""
        return self.training.method

    @property
    def deployable(self) -> list[nn.Module]:
        """Copies of student and peers with their averaged weights, the student first."""
        return self.training.averaged_students()

    def run(self, until: int | None = None) -> "ToyTraining":
        """Train up to epoch `until` (default: the end of the schedule); returns itself."""
        self.training.run(until=until)
        return self

    def state(self) -> dict[str, Tensor]:
        """All tensors of a checkpoint but the seconds that it took, as copies."""
        return {k: v.detach().clone() for k, v in self.training.state().items() if k != "progress/seconds"}


def start(method: Method, settings: ToySettings | None = None) -> ToyTraining:
    """Attach a method to a small student and larger teachers.

    Raises:
        InputError: the method refuses these networks.
    """
    given = settings or ToySettings()
    numerics = Numerics(bf16=given.bf16, channels_last=True)
    augmenter = _augmenter(given)
    teachers = [
        TeacherOutputs(Teacher(model, f"{i:064d}", "teacher", 1, 1), shown, given.batch_size, numerics, None)
        for i, (model, shown) in enumerate(_teachers(method, given, augmenter))
    ]
    setup = TrainingSetup(
        source=ArrayBatches(augmenter, _labels(given)),
        dataset=DatasetInfo(given.samples, N_CLASSES, _MEAN, _STD),
        schedule=Schedule(EPOCHS, given.batch_size, 0.05, 0.9, 5e-4, 0.1, 0.2, 5.0),
        numerics=numerics,
        seed=given.seed,
        calibrated=given.calibrated,
    )
    networks = tuple(t.teacher.model for t in teachers)
    untouched = tuple(copied(network.state_dict()) for network in networks)
    family = given.pair[0]
    training = Training(student_of(family), teachers, method, setup, lambda seed: student_of(family, seed))
    return ToyTraining(training, networks, untouched)


def student_of(family: Family, seed: int = 1) -> nn.Module:
    """The student before training: (B, 1, 8, 8) in stored units -> (B, 4)."""
    with seeded(seed, 0):
        return Normalized(toy_network(family, N_CLASSES, large=False), _MEAN, _STD)


def toy_samples(n: int) -> Split:
    """`n` noisy grey images of 8x8; each of the four classes has a quarter of the image brighter."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(n) % N_CLASSES
    x = torch.randint(0, 160, (n, 1, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    half = SIDE // 2
    for i, label in enumerate(y.tolist()):
        row, column = half * (label // 2), half * (label % 2)
        x[i, :, row : row + half, column : column + half] += 95
    return Split(x, y)


def other_view(x: Tensor) -> Tensor:
    """Another recording of the same samples, for methods that need pairs: a negative at half the resolution."""
    coarse = torch.nn.functional.avg_pool2d(255 - x.float(), 2)
    return torch.nn.functional.interpolate(coarse, scale_factor=2).to(x.dtype)


class _Secret(Augmenter):
    def batch(self, epoch: int, indices: Tensor) -> Tensor:
        raise AssertionError("a training sample was read")


def _labels(given: ToySettings) -> Tensor:
    if given.secret:
        return torch.full((given.samples,), -100)  # no class: reading one is an error
    return torch.arange(given.samples) // 3 if given.equal else toy_samples(given.samples).y


def _augmenter(given: ToySettings) -> Augmenter:
    x = toy_samples(given.samples).x[:]
    if given.equal:
        x = x[:1].expand_as(x).clone()
    kind: Callable[..., Augmenter] = _Secret if given.secret else Augmenter
    return kind(x, _MEAN, _STILL if given.equal else _SHIFTED, 0)


def _teachers(method: Method, given: ToySettings, augmenter: Augmenter) -> Sequence[tuple[nn.Module, Augmenter]]:
    count = {"none": 0, "one": 1, "several": N_TEACHERS}[method.teachers]
    if "pairs" in method.needs:
        augmenter = Augmenter(other_view(augmenter.x[:]), _MEAN, _STILL, 0)
    networks = []
    for i in range(count):
        with seeded(100 + i, 0):
            body = with_opinions(toy_network(given.pair[1], N_CLASSES, large=True))
        networks.append((Normalized(body, _MEAN, _STD).eval(), augmenter))
    return networks
