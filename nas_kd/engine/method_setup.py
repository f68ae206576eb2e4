"""Attaches a method to the networks that it works with, before training starts."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor, nn

from nas_kd.engine.counted_rows import OF_ROWS, counted_rows
from nas_kd.engine.feature_extractor import FeatureExtractor, FeaturePoints, find_feature_points
from nas_kd.engine.label_heads import (
    LABEL_HEAD_NEEDS,
    add_label_heads,
    as_seen_by,
    check_classes,
    remove_label_heads,
)
from nas_kd.engine.numerics import Numerics, is_out_of_memory, mix_seeds, seeded
from nas_kd.engine.subgraph import subgraph_after
from nas_kd.engine.teacher_outputs import LiveTeacher
from nas_kd.errors import InputError
from nas_kd.methods.base import OF_LABELLED_SAMPLES, Batch, Method, MethodContext, Need, Network, Outputs
from nas_kd.methods.losses import standardized
from nas_kd.tasks.base import Task
from nas_kd.tasks.classification import CLASSIFICATION
from nas_kd.user_code import describe_error


@dataclass(frozen=True)
class DatasetInfo:
    """Facts about the training samples.

    Attributes:
        n_samples: number of training samples.
        n_classes: number of classes, the width of the logits.
        mean: (C,) of each channel, in stored units; (1,) where samples are no images.
        std: standard deviation, of the same shape.
        task: what networks are to do with them.
    """

    n_samples: int
    n_classes: int
    mean: Tensor
    std: Tensor
    task: Task = CLASSIFICATION

    def decided(self, outputs: Outputs) -> Outputs:
        """What methods see of a network's outputs: the task's decisions in place of what the network returns."""
        return outputs._replace(logits=self.task.decide(outputs.logits))


def _check_declarations(method: Method) -> None:
    """Refuse a method of the user's own that asks for something that does not exist.

    Raises:
        InputError: `needs` or `optional` is not a set of known needs.
    """
    allowed = ", ".join(sorted(get_args(Need)))
    for option in ("needs", "optional"):
        given = getattr(method, option)
        if not isinstance(given, frozenset | set):
            raise InputError(f"method {method.name!r}: {option} must be a frozenset of {allowed}, got {given!r}")
    if wrong := sorted((method.needs | method.optional) - set(get_args(Need)), key=str):
        raise InputError(f"method {method.name!r}: needs has {wrong[0]!r}; allowed: {allowed}")


def loss_terms(method: Method, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
    """Compute a method's terms for one batch; one that needs labels is given the labelled samples alone.

    Where the method sees standardised logits they are scaled here; the label loss is none of its terms.

    Args:
        method: attached; one of `parts()`.
        student: the student's outputs.
        teachers: each teacher's outputs.
        batch: the batch that they were computed from.

    Raises:
        InputError: it does not return its terms by name, or fails on a batch some of whose samples have no label.
    """
    student = as_seen_by(method, student)
    if batch.has_unlabelled and method.needs & OF_LABELLED_SAMPLES:
        rows = len(batch.targets)
        student, *teachers = (_first(o, len(batch.y), rows) for o in (student, *teachers))
        batch = batch.labelled()
    if method.needs & OF_ROWS:
        student, teachers, batch = counted_rows(student, teachers, batch)
    if method.sees_standardized:
        student, *teachers = (o._replace(logits=standardized(o.logits)) for o in (student, *teachers))
    try:
        terms = method(student, teachers, batch)
    except (ValueError, RuntimeError, IndexError) as error:
        if not batch.has_unlabelled or isinstance(error, InputError) or is_out_of_memory(error):
            raise
        raise InputError(
            f"method {method.name!r} failed on a batch with unlabelled samples ({describe_error(error)}). `batch.y` "
            f"has the labels of the first {len(batch.y)} of its {len(batch.x)} samples: a method that reads it beyond "
            'batch.label_loss must have "labels" in `needs`, and is then given the labelled samples alone'
        ) from error
    if not isinstance(terms, dict):
        kind = type(terms).__name__
        raise InputError(f"method {method.name!r}: forward must return a dict of loss terms, got {kind}")
    return terms


def _first(outputs: Outputs, n: int, rows: int) -> Outputs:
    """The outputs for the first n samples, about which there are `rows` decisions."""
    stem = None if outputs.stem is None else outputs.stem[:n]
    return Outputs(outputs.logits[:rows], tuple(f[:n] for f in outputs.features), outputs.embedding[:n], stem)


class MethodSetup:
    """One student, its teachers and a method, before training."""

    def __init__(
        self,
        student: nn.Module,
        teachers: Sequence[LiveTeacher],
        method: Method,
        numerics: Numerics,
        example: Tensor,
    ) -> None:
        """Find where the student's features are read.

        Args:
            student: the network to train.
            teachers: as many as the method learns from.
            method: will be attached; untouched so far.
            numerics: number format and memory layout of the student.
            example: (2, ...), what the student takes, in stored units.

        Raises:
            InputError: the method asks for something that does not exist.
        """
        _check_declarations(method)
        self._student, self._teachers, self._method = student, teachers, method
        self._numerics, self._example = numerics, numerics.to_layout(example)
        self.points = find_feature_points(student, self._example)
        self._taught_other_classes = [t.teacher.other_classes for t in self._teachers]
        self.student_needs = method.needs | (LABEL_HEAD_NEEDS if any(self._taught_other_classes) else frozenset())

    def attach(self, dataset: DatasetInfo, rebuild: Callable[[int], nn.Module], seed: int) -> None:
        """Let the method create its adapters, peers and the like.

        Args:
            dataset: facts about the training samples.
            rebuild: the student's architecture with the initial weights of a seed.
            seed: of all weights that the method creates.

        Raises:
            InputError: the method cannot work with these networks.
        """
        check_classes(self._method, self._taught_other_classes)
        remove_label_heads(self._method)
        self._decided = dataset.decided
        with seeded(seed, 1):
            context = MethodContext(
                student=self._student,
                student_outputs=self._outputs_of_student(),
                teachers=tuple(t.teacher.model for t in self._teachers),
                teacher_outputs=tuple(self._outputs_of_teacher(t) for t in self._teachers),
                rebuild=lambda number: self._numerics.place(rebuild(mix_seeds(seed, number))),
                observe=self._observe,
                branch=lambda number: self._branch(rebuild(mix_seeds(seed, number))),
                branch_stage=self._branch_stage,
                example=self._example,
                n_samples=dataset.n_samples,
                n_classes=dataset.n_classes,
                mean=dataset.mean,
                std=dataset.std,
            )
            self._method.attach(context)
            add_label_heads(self._method, self._taught_other_classes, context)
            self._numerics.place(self._method)

    def _outputs_of_student(self) -> Outputs:
        student = self._student
        was_training = student.training
        with torch.no_grad(), FeatureExtractor(student.eval(), self.points, self.student_needs) as extractor:
            outputs = self._decided(extractor(self._example))
        student.train(was_training)
        return outputs

    def _outputs_of_teacher(self, teacher: LiveTeacher) -> Outputs:
        return self._decided(teacher.example_outputs(teacher.given_of(self._method)))

    def _observe(self, model: nn.Module, example: Tensor) -> Network:
        points = find_feature_points(model, example)
        return ObservedNetwork(model, points, self._method.needs, self._numerics, self._decided)

    @property
    def _branch_stage(self) -> int:
        return max(0, len(self.points.features) - 2)

    def _branch(self, model: nn.Module) -> nn.Module:
        if not self.points.features:
            raise InputError(f"method {self._method.name!r} branches behind a feature map, and the student has none")
        return self._numerics.place(subgraph_after(model, self.points.features[self._branch_stage]))


class ObservedNetwork:
    """A network that runs as the student does; it carries hooks only while it runs, so that copies of it have none."""

    def __init__(
        self,
        model: nn.Module,
        points: FeaturePoints,
        needs: frozenset[Need],
        numerics: Numerics,
        decided: Callable[[Outputs], Outputs],
    ) -> None:
        """Keep a network for a method.

        Args:
            model: the network; it does not become a part of the method that keeps this.
            points: where its features are read.
            needs: what the method looks at.
            numerics: number format in which it runs.
            decided: makes what the method sees of what the network returns.
        """
        self._decided = decided
        self._model = (model,)  # in a tuple, or the method would register the network as its own submodule
        self._points, self._needs, self._numerics = points, needs, numerics

    def __call__(self, x: Tensor) -> Outputs:
        """Run the network on x (B, ...); outputs are float32."""
        with FeatureExtractor(self._model[0], self._points, self._needs) as extractor, self._numerics.autocast():
            return self._decided(extractor(x))


def reinitialized(model: nn.Module, seed: int) -> nn.Module:
    """Copy a network and draw its initial weights again, as each layer's `reset_parameters` does.

    Layers whose weights are all frozen keep them, and so do parameters that belong to no layer with such a method.

    Args:
        model: any network; left as it was.
        seed: of the new weights.

    Raises:
        InputError: none of its trained weights can be drawn again.
    """
    copy = deepcopy(model)
    before = [p.detach().clone() for p in copy.parameters() if p.requires_grad]
    with seeded(seed, 0):
        for module in copy.modules():
            reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
            if callable(reset) and any(p.requires_grad for p in module.parameters(recurse=False)):
                reset()
    after = [p for p in copy.parameters() if p.requires_grad]
    if all(torch.equal(old, new) for old, new in zip(before, after, strict=True)):
        raise InputError(
            f"cannot draw other initial weights for {type(model).__name__}: none of its layers has reset_parameters(); "
            "this method trains several networks like the student"
        )
    return copy
