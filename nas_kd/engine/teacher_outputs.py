"""What a student sees of its teacher: its outputs on each batch, live or from an exact cache.

Augmentation is a pure function of (data seed, epoch, sample), the same for every training. So a teacher's logits on
an epoch are computed once, kept in the store, and read by every student that learns from that teacher.
"""

import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nas_kd.data.view import View
from nas_kd.engine.batch_source import BatchSource
from nas_kd.engine.feature_extractor import FeatureExtractor, FeaturePoints, find_feature_points
from nas_kd.engine.module_calls import is_closed
from nas_kd.engine.numerics import Numerics
from nas_kd.engine.teacher_logits import CachedLogits, LogitsByPass, StoredLogits
from nas_kd.errors import InputError
from nas_kd.methods.base import Batch, Method, Need, Outputs
from nas_kd.plugins import available
from nas_kd.store.store import Store


@dataclass(frozen=True)
class Teacher:
    """A trained network in eval mode.

    Attributes:
        model: (B, ...) in stored units -> (B, C) logits.
        key: fingerprint of all that its weights depend on; cached outputs are stored under it.
        description: for people, e.g. "3 stages, 21 k weights".
        parameters: number of weights.
        macs: multiply-adds of one sample.
        features: module paths where features are read; None: found by changes of resolution.
        paired: whether it is shown the data's other view of each sample, where there is one.
        other_classes: whether its logits (B, K) are of other classes than the data's.
        stored: (n, C) logits for all samples by split ("train", "unlabelled" and others), where these are all that
            there is of it: `model` then cannot be run. None: it is a network.
        checkpoints: earlier states of the same network, early to late, that can teach in its place.
    """

    model: nn.Module
    key: str = ""
    description: str = "teacher"
    parameters: int = 0
    macs: int = 0
    features: tuple[str, ...] | None = None
    paired: bool = False
    other_classes: bool = False
    stored: Mapping[str, Tensor] | None = None
    checkpoints: tuple["Teacher", ...] = ()

    def at_checkpoint(self, number: int | None) -> "Teacher":
        """The teacher at one of its checkpoints.

        Args:
            number: from 1, early to late; None: the final network, this one.

        Raises:
            InputError: it has fewer checkpoints.
        """
        if number is None:
            return self
        if number > len(self.checkpoints):
            have = len(self.checkpoints)
            raise InputError(
                f"checkpoint {number} of the teacher is to teach, and it has {have}: see teacher.checkpoints"
            )
        return self.checkpoints[number - 1]

    @property
    def weights_limit(self) -> int:
        """Assistants have fewer weights than this: than the teacher, if that is a network."""
        return self.parameters if self.stored is None else sys.maxsize


# The teacher's outputs for a batch of an epoch (from 0), without gradient.
TeacherReader = Callable[[int, Batch], Outputs]


class LiveTeacher:
    """A teacher that is run on every batch, on exactly what the student is shown."""

    def __init__(self, teacher: Teacher, example: Tensor, numerics: Numerics) -> None:
        """Freeze the teacher and put it into eval mode.

        Args:
            teacher: the network to learn from.
            example: (2, ...) what it takes.
            numerics: number format and memory layout.
        """
        self.teacher, self.numerics = teacher, numerics
        self._example = example
        self._points: FeaturePoints | None = None
        self._closed = any(map(is_closed, teacher.model.modules()))
        numerics.place(teacher.model).requires_grad_(False).eval()

    def given_of(self, method: Method) -> frozenset[Need]:
        """What the method needs, but for what it can do without where this teacher shows nothing but its logits."""
        shows_logits_only = self.teacher.stored is not None or self._closed
        return method.needs - method.optional if shows_logits_only else method.needs

    def extractor(self, needs: frozenset[Need]) -> FeatureExtractor:
        """The running teacher with hooks on its modules; the caller closes it.

        Raises:
            InputError: the method looks inside a teacher that is scripted or traced.
        """
        if self.teacher.stored is not None:
            raise InputError(
                "the teacher is known by its outputs alone (teacher.outputs), which are logits: use a method that "
                f"learns from these ({', '.join(_logits_methods())})"
            )
        if needs & {"features", "embedding", "stem"} and self._closed:
            raise InputError(
                "the teacher is scripted or traced, so that its features cannot be read: give the module that it was "
                f"made from, or use a method that learns from logits ({', '.join(_logits_methods())})"
            )
        if self._points is None:
            self._points = find_feature_points(self.teacher.model, self.example(), self.teacher.features)
        return FeatureExtractor(self.teacher.model, self._points, needs)

    def example(self) -> Tensor:
        """Two samples of what the teacher takes, (2, ...), in its memory layout."""
        return self.numerics.to_layout(self._example)

    def example_outputs(self, needs: frozenset[Need]) -> Outputs:
        """What the teacher gives for two samples, or of stored outputs for the first ones.

        Raises:
            InputError: see `extractor`.
        """
        if self.teacher.stored is not None and can_use_cache(needs):
            return _as_outputs(self.teacher.stored["train"][:2])
        with self.extractor(needs) as extractor:
            return self.live(extractor, self.example())

    def live(self, extractor: FeatureExtractor, x: Tensor) -> Outputs:
        """Run the teacher on a batch (B, ...) without gradient."""
        with torch.no_grad(), self.numerics.autocast():
            return extractor(x)

    def reader(self, needs: frozenset[Need], view: View | None, stack: ExitStack) -> TeacherReader:
        """Prepare to give a method the outputs that it needs.

        Args:
            needs: what the method looks at.
            view: the samples as the student is shown them; None if they have no numbers.
            stack: takes the teacher's hooks off when it is closed.
        """
        extractor = stack.enter_context(self.extractor(needs))
        return lambda _epoch, batch: self.live(extractor, batch.x)


class TeacherOutputs(LiveTeacher):
    """One teacher on one training set in memory; logits are cached and shared by all students that learn from it."""

    def __init__(
        self,
        teacher: Teacher,
        augmenter: View,
        batch_size: int,
        numerics: Numerics,
        store: Store | None,
        *,
        unlabelled: View | None = None,
    ) -> None:
        """Freeze the teacher and put it into eval mode.

        Args:
            teacher: the network to learn from.
            augmenter: the training samples as the teacher is shown them.
            batch_size: of the trainings; the teacher is run on batches of exactly this size.
            numerics: number format and memory layout.
            store: keeps logits for other processes; None: they are kept in memory only.
            unlabelled: unlabelled samples, which student and teacher are shown alike; None: there are none.
        """
        super().__init__(teacher, augmenter.example(), numerics)
        self.augmenter = augmenter
        self._logits = self._logits_on(augmenter, "train", batch_size, store)
        self._of_unlabelled = (
            None if unlabelled is None else self._logits_on(unlabelled, "unlabelled", batch_size, store)
        )

    def _logits_on(self, augmenter: View, part: str, batch_size: int, store: Store | None) -> LogitsByPass:
        if self.teacher.stored is not None:
            return StoredLogits(self.teacher.stored[part])
        return CachedLogits(self, augmenter, min(batch_size, len(augmenter)), store)

    def reader(self, needs: frozenset[Need], view: View | None, stack: ExitStack) -> TeacherReader:
        """Prepare to give a method the outputs that it needs: cached logits where they are all that it looks at.

        Args:
            needs: what the method looks at.
            view: the samples as the student is shown them. Where the teacher has another view, the outputs are for
                its own view of the same samples. None if samples have no numbers: nothing can be looked up.
            stack: takes the teacher's hooks off when it is closed.
        """
        if view is not None and can_use_cache(needs) and self.keeps_logits:
            return self._look_up
        run = super().reader(needs, view, stack)
        if view is None or view is self.augmenter:  # data with a view for the teacher have no unlabelled samples
            return run

        def read(epoch: int, batch: Batch) -> Outputs:
            made_up = len(batch.indices) == 0
            return run(epoch, batch if made_up else batch._replace(x=self.view(epoch, batch.indices)))

        return read

    def view(self, epoch: int, indices: Tensor) -> Tensor:
        """The samples `indices` (B,) of the training split as the teacher is shown them: (B, ...) in stored units."""
        return self.numerics.to_layout(self.augmenter.batch(epoch, indices))

    def _look_up(self, epoch: int, batch: Batch) -> Outputs:
        if not batch.shown:
            return self.cached(epoch, batch.indices)
        rows = [self._of(s.unlabelled).rows(s.number, s.indices) for s in batch.shown]
        return _as_outputs(rows[0] if len(rows) == 1 else torch.cat(rows))

    def _of(self, unlabelled: bool) -> LogitsByPass:
        if not unlabelled:
            return self._logits
        if self._of_unlabelled is None:
            raise RuntimeError("these outputs are of labelled samples alone")
        return self._of_unlabelled

    def cached(self, epoch: int, indices: Tensor) -> Outputs:
        """Logits for the samples `indices` (B,) as augmented in this epoch; features and embedding are empty."""
        return _as_outputs(self._logits.rows(epoch, indices))

    @property
    def keeps_logits(self) -> bool:
        """Whether its logits are cached: maps of dense tasks may be too large for that, see `CachedLogits.kept`."""
        return self._logits.kept and (self._of_unlabelled is None or self._of_unlabelled.kept)

    def prepare(self, epochs: Iterable[int], *, unlabelled: bool = False) -> None:
        """Leave the logits on these epochs, or passes over samples of their kind, in the store, where they are kept."""
        for epoch in epochs if self.keeps_logits else ():
            self._of(unlabelled).whole(epoch)


def _as_outputs(logits: Tensor) -> Outputs:
    """Logits (B, C) alone; features and embedding are empty."""
    return Outputs(logits, (), logits[:, :0])


def outputs_on(teacher: Teacher, source: BatchSource, batch_size: int, numerics: Numerics) -> LiveTeacher:
    """Choose how students get a teacher's outputs: from a cache in memory where samples have numbers, else live.

    Args:
        teacher: the network to learn from; it is shown what the student is shown.
        source: the training samples.
        batch_size: of the training.
        numerics: number format and memory layout.
    """
    if source.view is None:
        return LiveTeacher(teacher, source.example(), numerics)
    return TeacherOutputs(teacher, source.view, batch_size, numerics, None, unlabelled=source.unlabelled_view)


def _logits_methods() -> list[str]:
    """Names of the built-in methods that need nothing but one teacher's logits."""
    methods = available("method").items()
    return [n for n, m in methods if m.teachers == "one" and not m.generations and m.needs <= {"logits", "labels"}]


def can_use_cache(needs: frozenset[Need]) -> bool:
    """Whether cached logits are all that a method asks of its teachers."""
    return needs <= {"logits", "indices", "pairs", "labels"}
