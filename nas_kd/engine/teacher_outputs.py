"""What a student sees of its teacher: live, or from a cache of exactly what the live teacher would say.

Augmentation is a pure function of (data seed, epoch, sample), the same for every training; so a teacher's logits on
an epoch are computed once, kept in the store, and read by every student that learns from that teacher.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nas_kd.data.augment import Augmenter
from nas_kd.engine.feature_extractor import FeatureExtractor, FeaturePoints, find_feature_points
from nas_kd.engine.numerics import Numerics
from nas_kd.methods.base import Need, Outputs
from nas_kd.serialization import fingerprint
from nas_kd.store.store import Store

CACHED_EPOCHS_BYTES = 256 * 2**20  # kept in memory, per teacher


@dataclass(frozen=True)
class Teacher:
    """A trained network, in eval mode: (B, ...) in stored units -> (B, C) logits. `key`: what its weights depend on.

    `paired`: it is shown the data's other view of each sample, where there is one.
    """

    model: nn.Module
    key: str
    description: str
    parameters: int
    macs: int
    features: tuple[str, ...] | None = None  # module paths to tap; None: found by resolution
    paired: bool = False


class TeacherOutputs:
    """One teacher on one training set, at a fixed batch size; shared by all students that learn from it."""

    def __init__(
        self, teacher: Teacher, augmenter: Augmenter, batch_size: int, numerics: Numerics, store: Store | None
    ) -> None:
        self.teacher = teacher
        self.augmenter = augmenter
        self._batch_size = batch_size
        self._numerics = numerics
        self._store = store
        self._memory: OrderedDict[int, Tensor] = OrderedDict()
        self._points: FeaturePoints | None = None
        numerics.place(teacher.model).requires_grad_(False).eval()

    def extractor(self, needs: frozenset[Need]) -> FeatureExtractor:
        """The live teacher, with hooks on; the caller closes them."""
        if self._points is None:
            self._points = find_feature_points(self.teacher.model, self.example(), self.teacher.features)
        return FeatureExtractor(self.teacher.model, self._points, needs)

    def example(self) -> Tensor:
        """Two made-up samples of what the teacher takes."""
        return self._numerics.to_layout(self.augmenter.example())

    def live(self, extractor: FeatureExtractor, x: Tensor) -> Outputs:
        """Outputs for a batch, no gradient."""
        with torch.no_grad(), self._numerics.autocast():
            return extractor(x)

    def view(self, epoch: int, indices: Tensor) -> Tensor:
        """What the teacher is shown of these samples in this epoch: (B, ...) in stored units."""
        return self._numerics.to_layout(self.augmenter.batch(epoch, indices))

    def cached(self, epoch: int, indices: Tensor) -> Outputs:
        """Logits for these samples as augmented in this epoch; features and embedding are empty."""
        logits = self._epoch(epoch)[indices]
        return Outputs(logits, (), logits[:, :0])

    def prepare(self, epochs: Iterable[int]) -> None:
        """Leave the logits on these epochs in the store."""
        for epoch in epochs:
            self._epoch(epoch)

    def _epoch(self, epoch: int) -> Tensor:
        epoch = 0 if self.augmenter.identity else epoch
        if epoch in self._memory:
            self._memory.move_to_end(epoch)
            return self._memory[epoch]
        logits = self._load_or_compute(epoch)
        self._memory[epoch] = logits
        while len(self._memory) > 1 and len(self._memory) * logits.nbytes > CACHED_EPOCHS_BYTES:
            self._memory.popitem(last=False)
        return logits

    def _load_or_compute(self, epoch: int) -> Tensor:
        if self._store is None:
            return self._compute(epoch)
        key = fingerprint(
            [self.teacher.key, self.augmenter.key, epoch, self._batch_size, self._numerics.bf16, torch.__version__]
        )
        with self._store.lock("logits", key):
            entry = self._store.load("logits", key)
            if entry is not None:
                return entry.tensors["logits"]
            logits = self._compute(epoch)
            self._store.save("logits", key, {"logits": logits}, {"epoch": epoch, "teacher": self.teacher.key})
            return logits

    def _compute(self, epoch: int) -> Tensor:
        """(N, C). Every chunk has exactly the training batch's size: kernels are chosen by shape, and so are bits."""
        n, size = len(self.augmenter), self._batch_size
        extractor = FeatureExtractor(self.teacher.model, FeaturePoints((), None), frozenset())
        parts = []
        for start in range(0, n, size):
            indices = torch.arange(start, start + size) % n
            parts.append(self.live(extractor, self.view(epoch, indices)).logits)
        return torch.cat(parts)[:n].contiguous()


def can_use_cache(needs: frozenset[Need]) -> bool:
    """Whether cached logits are all that a method asks of its teachers."""
    return needs <= {"logits", "indices", "pairs"}
