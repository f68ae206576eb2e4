"""Batches from a user's own loader: its shuffling, augmentation and batch sizes are used as they are."""

from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, IterableDataset

from nas_kd.engine.batch_source import BatchSource, EpochBatches, Order, Samples
from nas_kd.engine.calibration import BATCHES
from nas_kd.engine.random_stream import RandomStream
from nas_kd.engine.sample_checks import as_network_input, as_pair, length_of, moments
from nas_kd.engine.target_readers import TargetReader, joined
from nas_kd.errors import InputError


class LoaderData:
    """Batches (x, y) from a DataLoader, or from anything else with a length that can be iterated again and again."""

    kind = "DataLoader"
    numbered = False

    def __init__(self, loader: Iterable[Any], name: str, seed: int) -> None:
        """Keep the loader; nothing is read yet.

        Raises:
            InputError: it has no length, is empty, or can be iterated only once.
        """
        if isinstance(loader, Iterator):
            raise InputError(f"{name} is a {type(loader).__name__}, which can be read only once; want a DataLoader")
        self.loader, self.name, self._seed = loader, name, seed
        self.steps = max(1, length_of(loader, name) - _single_sample_at_the_end(loader))
        self._unused: LoaderPass | None = None

    def __len__(self) -> int:
        return self.steps * len(self._first_batch()[0])

    @property
    def batch_size(self) -> int:
        """Samples of the first batch, two at least."""
        return max(2, len(self._first_batch()[0]))

    def example(self) -> Tensor:
        """The first samples of the first batch, two at most."""
        return self._first_batch()[0][:2]

    def samples(self) -> Tensor:
        """The first batch."""
        return self._first_batch()[0]

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the first batch."""
        return moments(self.samples())

    def labels(self, read: TargetReader) -> Tensor:
        """Targets of one pass over the loader, as it draws samples in training."""
        return joined((y for _, y in self.batches(read)), self.name)

    def source(self, read: TargetReader, own_order: bool) -> BatchSource:
        """The loader's own batches, which cannot be ordered."""
        if len(self._first_batch()[0]) < 2:
            raise InputError(
                f"{self.name}: its first batch has one sample; training needs two samples a batch at least"
            )
        return LoaderBatches(self, read)

    def batches(self, read: TargetReader) -> Iterator[tuple[Tensor, Tensor]]:
        """One pass over the loader, its last batch included."""
        batches = self.open(0)
        for step in range(length_of(self.loader, self.name)):
            x, y = batches(step)
            yield x, read(y, len(x), self.name)

    def open(self, epoch: int) -> "LoaderPass":
        """Start a pass over the loader, or use the one of this epoch of which only the first batch has been read."""
        unused, self._unused = self._unused, None
        return unused if unused is not None and epoch == 0 else LoaderPass(self, RandomStream(self._seed, epoch))

    def _first_batch(self) -> tuple[Tensor, Any]:
        if self._unused is None:
            self._unused = self.open(0)
        return self._unused(0)


class LoaderPass:
    """One pass over a loader. The latest batches are kept, as calibration reads some before training does."""

    def __init__(self, data: LoaderData, stream: RandomStream) -> None:
        """Prepare a pass whose shuffling and transforms draw from `stream`; nothing is read yet."""
        self._data, self._stream = data, stream
        self._batches: Iterator[Any] | None = None
        self._read: dict[int, tuple[Tensor, Any]] = {}
        self._next = 0

    def __call__(self, step: int) -> tuple[Tensor, Any]:
        """Samples (B, ...) and labels of a step, not checked; one of the `BATCHES` latest read, or a later one."""
        while self._next <= step:
            self._read = {number: kept for number, kept in self._read.items() if number > self._next - BATCHES}
            self._read[self._next] = self._read_next()
            self._next += 1
        return self._read[step]

    def _read_next(self) -> tuple[Tensor, Any]:
        name = self._data.name
        with self._stream.active():
            if self._batches is None:
                self._batches = iter(self._data.loader)
            try:
                batch = next(self._batches)
            except StopIteration:
                whole = len(self._data.loader)  # type: ignore[arg-type]
                raise InputError(
                    f"{name} ended after {self._next} of its {whole} batches; it must give all of them in every epoch"
                ) from None
        x, y = as_pair(batch, f"a batch of {name}")
        samples = as_network_input(x, f"batch {self._next} of {name}")
        labels = len(y) if isinstance(y, Sized) and getattr(y, "shape", None) != () else None
        if samples.dim() == 0 or len(samples) != labels:
            found = f"x of shape {tuple(samples.shape)} and {'one label' if labels is None else f'{labels} labels'}"
            raise InputError(f"batch {self._next} of {name} has {found}; want x (B, ...) and y (B,)")
        return samples, y


@dataclass(frozen=True)
class LoaderBatches:
    """The batches of a user's loader, one pass an epoch; samples have no numbers.

    Attributes:
        data: the loader.
        read: checks and converts targets.
    """

    data: LoaderData
    read: TargetReader
    view: None = None
    unlabelled_view: None = None

    def steps_per_epoch(self, batch_size: int) -> int:
        """Batches in a pass, whatever their size; a last one with a single sample is left out."""
        return self.data.steps

    def example(self) -> Tensor:
        """Two samples of the first batch."""
        return self.data.example()

    def epoch(self, number: int, batch_size: int, order: Order) -> EpochBatches:
        """Start a pass, with the loader's own order and batch size; batches are to be read in their order."""
        batches, no_numbers = self.data.open(number), torch.zeros(0, dtype=torch.int64)

        def batch(step: int) -> Samples:
            x, y = batches(step)
            where = f"batch {step} of {self.data.name}"
            if len(x) < 2:
                raise InputError(f"{where} has {len(x)} sample; training needs two at least: use drop_last=True")
            return Samples(x, self.read(y, len(x), where), no_numbers)

        return batch


def _single_sample_at_the_end(loader: Any) -> bool:
    """Whether the last batch of a DataLoader has one sample, which training leaves out as arrays' incomplete ones."""
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        return False
    batches = loader.batch_sampler
    if not isinstance(batches, BatchSampler) or batches.drop_last or not isinstance(batches.sampler, Sized):
        return False
    return len(batches.sampler) % batches.batch_size == 1
