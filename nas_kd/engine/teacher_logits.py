"""A teacher's logits on one array of samples: computed once for each pass over them, or stored in a file.

Those of dense tasks, a map for each sample, are kept in half precision, and only where those of a pass are small
enough; else the teacher is run on every batch.
"""

from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from nas_kd.data.view import View
from nas_kd.engine.feature_extractor import FeatureExtractor, FeaturePoints
from nas_kd.serialization import fingerprint
from nas_kd.store.store import Store

if TYPE_CHECKING:
    from nas_kd.engine.teacher_outputs import LiveTeacher

DENSE_PASS_BYTES = 64 * 2**20  # of the maps of a pass over the samples, in half precision: at most as much is kept
CACHED_EPOCHS_BYTES = 256 * 2**20  # kept in memory, per teacher and kind of samples


class LogitsByPass(Protocol):
    """A teacher's logits on one array of samples."""

    @property
    def kept(self) -> bool:
        """Whether they are kept at all: not if they are too large."""

    def rows(self, epoch: int, indices: Tensor) -> Tensor:
        """Logits (b, ...) for the samples `indices` (b,) as augmented in this epoch."""

    def whole(self, epoch: int) -> Tensor:
        """Logits (N, C) for all samples as augmented in this epoch."""


@dataclass(frozen=True)
class StoredLogits:
    """Logits (N, C) that belong to samples, whichever view of them is shown."""

    logits: Tensor
    kept: bool = True

    def rows(self, epoch: int, indices: Tensor) -> Tensor:
        """Logits (b, C) for the samples `indices` (b,)."""
        return self.logits[indices]

    def whole(self, epoch: int) -> Tensor:
        """Logits (N, C) for all samples."""
        return self.logits


class CachedLogits:
    """A teacher's logits on one array of samples, computed once for each pass over them."""

    def __init__(self, teacher: "LiveTeacher", augmenter: View, batch_size: int, store: Store | None) -> None:
        """Start without any.

        Args:
            teacher: the network.
            augmenter: the samples as it is shown them.
            batch_size: that it is run on, exactly.
            store: keeps logits for other processes; None: they are kept in memory only.
        """
        self._teacher, self._augmenter, self._batch_size, self._store = teacher, augmenter, batch_size, store
        self._network, self._numerics = teacher.teacher, teacher.numerics
        self._memory: OrderedDict[int, Tensor] = OrderedDict()

    @cached_property
    def kept(self) -> bool:
        """Whether logits of a pass are single numbers for each class, or maps of at most `DENSE_PASS_BYTES`."""
        example = self._teacher.example_outputs(frozenset()).logits
        return example.ndim == 2 or len(self._augmenter) * example[0].numel() * 2 <= DENSE_PASS_BYTES

    def rows(self, epoch: int, indices: Tensor) -> Tensor:
        """Logits (b, ...) for the samples `indices` (b,) as augmented in this epoch, float32."""
        return self.whole(epoch)[indices].float()

    def whole(self, epoch: int) -> Tensor:
        """Logits (N, C) for all samples as augmented in this epoch."""
        epoch = 0 if self._augmenter.identity else epoch
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
            [self._network.key, self._augmenter.key, epoch, self._batch_size, self._numerics.bf16, torch.__version__]
        )
        with self._store.lock("logits", key):
            entry = self._store.load("logits", key)
            if entry is not None:
                return entry.tensors["logits"]
            logits = self._compute(epoch)
            self._store.save("logits", key, {"logits": logits}, {"epoch": epoch, "teacher": self._network.key})
            return logits

    def _compute(self, epoch: int) -> Tensor:
        """(N, ...). Every chunk has exactly the training batch's size: kernels are chosen by shape, and so are bits."""
        n, size = len(self._augmenter), self._batch_size
        extractor = FeatureExtractor(self._network.model, FeaturePoints((), None), frozenset())
        parts = []
        for start in range(0, n, size):
            indices = torch.arange(start, start + size) % n
            shown = self._numerics.to_layout(self._augmenter.batch(epoch, indices))
            logits = self._teacher.live(extractor, shown).logits
            parts.append(logits if logits.ndim == 2 else logits.half())
        return torch.cat(parts)[:n].contiguous()
