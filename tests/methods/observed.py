"""Methods that build networks of their own, attached to real ones: their terms on a batch, and what gradients reach."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from nas_kd.config.options import Augmentation
from nas_kd.data.augment import Augmenter
from nas_kd.engine.batch_source import ArrayBatches
from nas_kd.engine.feature_extractor import FeatureExtractor, find_feature_points
from nas_kd.engine.method_setup import DatasetInfo
from nas_kd.engine.numerics import seeded
from nas_kd.engine.schedule import Schedule
from nas_kd.engine.training import Training, TrainingSetup
from nas_kd.methods.base import Batch, Method, Outputs
from nas_kd.methods.combine import make_method
from nas_kd.models.wrappers import Normalized
from nas_kd.plugins import available

from .conftest import FP32, setup_of, training_of
from .toys import Array, softmax

LADDER_ENDS = [
    (space, shape, rung) for space in ("resnet", "mobilenet") for shape in ((1, 8, 8), (3, 32, 32)) for rung in (0, -1)
]


@dataclass
class Observed:
    """A method on one batch; student and method are in training mode."""

    training: Training
    student: Outputs
    teachers: Sequence[Outputs]
    batch: Batch

    @property
    def method(self) -> Method:
        return self.training.method

    def terms(self) -> dict[str, Tensor]:
        return self.method(self.student, self.teachers, self.batch)

    def reached(self, term: str, modules: Mapping[str, nn.Module]) -> set[str]:
        """Names of those modules that get a gradient other than 0 from a term."""
        for module in (self.training.student, self.method):
            module.zero_grad()
        self.terms()[term].backward(retain_graph=True)
        return {
            name
            for name, module in modules.items()
            if any(p.grad is not None and bool(p.grad.any()) for p in module.parameters())
        }


def attached(name: str, b: int = 6, kind: str = "resnet", temperature: float | None = None) -> Observed:
    """A small student and larger teachers on the first digits."""
    method = make_method(name, temperature)
    setup = setup_of()
    return seen(training_of(method, kind, kind, setup), b)


def on_ladder(name: str, space: str, shape: tuple[int, int, int], rung: int, b: int = 2) -> Observed:
    """One of the ends of a search space's ladder on made-up images; no teachers."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randint(0, 256, (8, *shape), generator=generator, dtype=torch.uint8)
    mean, std = torch.full((shape[0],), 127.0), torch.full((shape[0],), 70.0)
    plugin = available("space")[space]

    def rebuild(seed: int) -> nn.Module:
        with seeded(seed):
            return Normalized(plugin.build(plugin.size_ladder(2)[rung], shape, 10), mean, std)

    setup = TrainingSetup(
        source=ArrayBatches(
            Augmenter(x, mean, Augmentation(crop=0, flip=False, cutout=0), seed=0), torch.arange(8) % 3
        ),
        dataset=DatasetInfo(8, 10, mean, std),
        schedule=Schedule(2, 4, 0.05, 0.9, 5e-4, 0.1, 0.2, 5.0),
        numerics=FP32,
        seed=2,
    )
    return seen(Training(rebuild(1), [], make_method(name), setup, rebuild), b)


def seen(training: Training, b: int) -> Observed:
    """The first `b` samples, past half of the schedule; classifiers get large weights, so that networks differ."""
    setup = training.setup
    x = FP32.to_layout(setup.source.augmenter.batch(0, torch.arange(b)))
    batch = Batch(x, setup.source.labels[:b], torch.arange(b), 0.6)
    points = find_feature_points(training.student, x)
    with torch.no_grad():
        for module in (*training.student.modules(), *training.method.modules()):
            if isinstance(module, nn.Linear) and module.out_features == setup.dataset.n_classes:
                module.weight *= 50
    training.student.train()
    training.method.train()
    with FeatureExtractor(training.student, points, training.method.needs) as extractor:
        outputs = extractor(x)
    teachers = []
    for teacher in training._teachers:
        with teacher.extractor(training.method.needs) as extractor:
            teachers.append(teacher.live(extractor, x))
    return Observed(training, outputs, teachers, batch)


def exact(x: Tensor) -> Array:
    """A tensor as float64, off the graph."""
    return x.detach().double().numpy()


def cross_entropy(logits: Array, labels: Array) -> float:
    return float(-np.log(softmax(logits, 1.0)[np.arange(len(logits)), labels]).mean())


def finite(o: Observed) -> bool:
    """Whether all terms, and all gradients of their sum, are finite, and every parameter of the method has one."""
    torch.stack(list(o.terms().values())).sum().backward()
    gradients = [p.grad for module in (o.training.student, o.method) for p in module.parameters() if p.grad is not None]
    return all(bool(torch.isfinite(g).all()) for g in gradients) and all(
        p.grad is not None for p in o.method.parameters()
    )
