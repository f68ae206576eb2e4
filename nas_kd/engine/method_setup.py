"""Shows a method the networks that it is to work with, before training starts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nas_kd.engine.feature_extractor import FeatureExtractor, FeaturePoints, find_feature_points
from nas_kd.engine.numerics import Numerics, mix_seeds, seeded
from nas_kd.engine.subgraph import subgraph_after
from nas_kd.engine.teacher_outputs import TeacherOutputs
from nas_kd.errors import InputError
from nas_kd.methods.base import Method, MethodContext, Need, Network, Outputs


@dataclass(frozen=True)
class DatasetInfo:
    """Of the training data: `mean`, `std`: (C,) or (1,), in stored units; what a network takes and answers."""

    n_samples: int
    n_classes: int
    mean: Tensor
    std: Tensor


class MethodSetup:
    """One student, its teachers and a method, before training."""

    def __init__(
        self,
        student: nn.Module,
        teachers: Sequence[TeacherOutputs],
        method: Method,
        numerics: Numerics,
        example: Tensor,
    ) -> None:
        """`example`: (2, ...), what the student takes, in stored units."""
        self._student, self._teachers, self._method = student, teachers, method
        self._numerics, self._example = numerics, numerics.to_layout(example)
        self.points = find_feature_points(student, self._example)

    def attach(self, facts: DatasetInfo, rebuild: Callable[[int], nn.Module], seed: int) -> None:
        """Let the method create what it needs.

        Raises:
            InputError: the method cannot work with these networks.
        """
        with seeded(seed, 1):
            context = MethodContext(
                student=self._student,
                student_outputs=self._shown(self._student),
                teachers=tuple(t.teacher.model for t in self._teachers),
                teacher_outputs=tuple(self._shown_by_teacher(t) for t in self._teachers),
                rebuild=lambda number: self._numerics.place(rebuild(mix_seeds(seed, number))),
                observe=self._observe,
                branch=lambda number: self._branch(rebuild(mix_seeds(seed, number))),
                branch_stage=self._branch_stage,
                example=self._example,
                n_samples=facts.n_samples,
                n_classes=facts.n_classes,
                mean=facts.mean,
                std=facts.std,
            )
            self._method.attach(context)
            self._numerics.place(self._method)

    def _shown(self, student: nn.Module) -> Outputs:
        was_training = student.training
        with torch.no_grad(), FeatureExtractor(student.eval(), self.points, self._method.needs) as extractor:
            outputs = extractor(self._example)
        student.train(was_training)
        return outputs

    def _shown_by_teacher(self, teacher: TeacherOutputs) -> Outputs:
        with teacher.extractor(self._method.needs) as extractor:
            return teacher.live(extractor, teacher.example())

    def _observe(self, model: nn.Module, example: Tensor) -> Network:
        return Observed(model, find_feature_points(model, example), self._method.needs, self._numerics)

    @property
    def _branch_stage(self) -> int:
        return max(0, len(self.points.features) - 2)

    def _branch(self, model: nn.Module) -> nn.Module:
        if not self.points.features:
            raise InputError(f"method {self._method.name!r} branches behind a feature map, and the student has none")
        return self._numerics.place(subgraph_after(model, self.points.features[self._branch_stage]))


class Observed:
    """A network run as the student is, hooks on it only while it runs, so that copies of it carry none."""

    def __init__(self, model: nn.Module, points: FeaturePoints, needs: frozenset[Need], numerics: Numerics) -> None:
        self._model = (model,)  # in a tuple: a method that keeps this must not take the network for its own
        self._points, self._needs, self._numerics = points, needs, numerics

    def __call__(self, x: Tensor) -> Outputs:
        """(B, ...) -> outputs, float32."""
        with FeatureExtractor(self._model[0], self._points, self._needs) as extractor, self._numerics.autocast():
            return extractor(x)
