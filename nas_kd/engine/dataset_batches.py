"""Batches from a map-style data set, whose items are read when they are needed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import default_collate

from nas_kd.data.mixing import Mixer
from nas_kd.data.samples import MOST_AT_ONCE
from nas_kd.engine.batch_source import BatchSource, EpochBatches, Order, Samples
from nas_kd.engine.random_stream import RandomStream
from nas_kd.engine.sample_checks import as_network_input, as_pair, as_tensor, length_of, moments
from nas_kd.engine.target_readers import TargetReader, joined
from nas_kd.errors import InputError
from nas_kd.tasks.base import MixedLabels

STATISTICS_SAMPLES = 256


class DatasetData:
    """A map-style data set, read item by item; its random transforms draw from the seed."""

    kind = "Dataset"
    numbered = True
    batch_size = None

    def __init__(self, dataset: "TorchDataset[Any]", name: str, seed: int, any_target: TargetReader) -> None:
        """Keep the data set; nothing is read yet. See `open_data` for the arguments.

        Raises:
            InputError: it has no length, or is empty.
        """
        self._dataset, self._name, self._seed, self._any_target = dataset, name, seed, any_target
        self._n = length_of(dataset, name)

    def __len__(self) -> int:
        return self._n

    def example(self) -> Tensor:
        """The first samples, two at most."""
        return self.read(range(min(2, len(self))), self._any_target, 0).x

    def samples(self) -> Tensor:
        """Samples spread over the data set."""
        return self.read(range(0, len(self), max(1, len(self) // STATISTICS_SAMPLES)), self._any_target, 1).x

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of samples spread over the data set."""
        return moments(self.samples())

    def source(self, read: TargetReader, own_order: bool) -> BatchSource:
        """Batches of the data set's items; if their order depends on targets, all items are read once for these."""
        plain = torch.zeros(len(self), dtype=torch.int64)  # of these, a random order needs the number alone
        return DatasetBatches(self, read, self.labels(read) if own_order else plain)

    def labels(self, read: TargetReader) -> Tensor:
        """Read all items for their targets, (N, ...)."""
        return joined((self.read(chunk, read, 2).y for chunk in self._chunks()), self._name)

    def batches(self, read: TargetReader) -> Iterator[tuple[Tensor, Tensor]]:
        """All items, in their order."""
        for chunk in self._chunks():
            samples = self.read(chunk, read, 3)
            yield samples.x, samples.y

    def _chunks(self) -> Iterator[range]:
        for start in range(0, len(self), MOST_AT_ONCE):
            yield range(start, min(start + MOST_AT_ONCE, len(self)))

    @property
    def stored_dtype(self) -> torch.dtype:
        """Number type of the items, before they are converted into what networks take."""
        x, _ = self._collated(range(1), 0)
        return as_tensor(x, self._name).dtype

    def _collated(self, indices: Sequence[int], *draw: int) -> tuple[Any, Any]:
        with RandomStream(self._seed, *draw).active():
            items = [as_pair(self._dataset[i], f"{self._name}[{i}]") for i in indices]
        try:
            x, y = default_collate(items)
        except (TypeError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{self._name}: its items cannot be put into a batch: {reason}") from error
        return x, y

    def read(self, indices: Sequence[int], read: TargetReader, *draw: int) -> Samples:
        """Put items into a batch; their random transforms depend on the seed and the numbers `draw` alone."""
        x, y = self._collated(indices, *draw)
        samples = as_network_input(x, self._name)
        return Samples(samples, read(y, len(samples), self._name, indices), torch.as_tensor(list(indices)))


@dataclass(frozen=True)
class DatasetBatches:
    """Batches of a data set's items, read when they are needed.

    Attributes:
        data: the data set.
        read: checks and converts targets.
        labels: (N,) that the order of samples may depend on.
        mixer: mixes samples with each other; None: nothing does.
    """

    data: DatasetData
    read: TargetReader
    labels: Tensor
    mixer: Mixer | None = None
    view: None = None
    unlabelled_view: None = None

    def steps_per_epoch(self, batch_size: int) -> int:
        """Whole batches in an epoch; samples that do not fill a last one are left out."""
        return len(self.data) // min(batch_size, len(self.data))

    def example(self) -> Tensor:
        """The first two samples of the data set."""
        return self.data.example()

    def epoch(self, number: int, batch_size: int, order: Order) -> EpochBatches:
        """Start an epoch; its batches can be read in any order and any number of times."""
        size, shuffled = min(batch_size, len(self.data)), order.labelled(number, self.labels)

        def batch(step: int) -> Samples:
            return self.samples(number, shuffled[step * size : (step + 1) * size], step)

        return batch

    def samples(self, number: int, indices: Tensor, step: int) -> Samples:
        """The items `indices` (b,), mixed as in a pass; their random transforms depend on pass and step."""
        if self.mixer is None:
            return self.data.read(indices.tolist(), self.read, 4, number, step)
        mixture, n = self.mixer.mixture(number, indices), len(indices)
        both = self.data.read(torch.cat([indices, mixture.partner]).tolist(), self.read, 4, number, step)
        x = self.mixer.mixed(number, indices, both.x[:n], both.x[n:])
        return Samples(x, both.y[:n], indices, mixed=MixedLabels(both.y[n:], mixture.share))
