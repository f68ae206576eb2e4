"""How good parts of a trained elastic network are with the weights that they inherit.

Judged on validation, after their batch statistics were estimated anew (Yu et al. 2020, BigNAS, arXiv:2003.11142).
"""

from collections.abc import Mapping
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import Tensor

from nas_kd.context.run_context import Context
from nas_kd.data.dataset import Split
from nas_kd.engine.batch_statistics import re_estimate
from nas_kd.engine.evaluation import accuracy_of
from nas_kd.errors import TrialError
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.models.subnetwork import cut_weights
from nas_kd.results.candidate import Architecture
from nas_kd.serialization import fingerprint

STATISTICS_BATCHES = 4
JUDGED_ON = 1000  # validation samples


class SubnetEvaluator:
    """Judges sub-networks; what it found is in the store, for all processes."""

    def __init__(self, context: Context, builder: NetworkBuilder) -> None:
        self._context, self._builder = context, builder
        self._weights = lru_cache(maxsize=1)(self._load)

    def accuracy(self, architecture: Architecture, key: str) -> float:
        """Of the part of the elastic network whose weights the store has under `key`; 0..1.

        Raises:
            TrialError: the store has no such weights.
        """
        store, entry = self._context.store, fingerprint([key, architecture.to_json(), len(self._validation)])
        accuracy: Any = store.load_json("inherited", entry)
        if accuracy is None:
            network = self._builder.build(architecture, self._context.seed)
            network.load_state_dict(cut_weights(self._weights(key), network))
            network = re_estimate(self._context.numerics.place(network), self._batches)
            accuracy = accuracy_of(network, self._validation, self._context.numerics)
            store.save_json("inherited", entry, accuracy)
        return float(accuracy)

    def _load(self, key: str) -> Mapping[str, Tensor]:
        if (entry := self._context.store.load("weights", key)) is None:
            raise TrialError("the elastic network is no longer in the store")
        return entry.tensors

    @cached_property
    def _batches(self) -> list[Tensor]:
        context = self._context
        size = min(context.config.distill.batch_size, len(context.data.train))
        order = torch.randperm(len(context.data.train), generator=torch.Generator().manual_seed(context.seed))
        starts = range(0, min(STATISTICS_BATCHES * size, len(order) - size + 1), size)
        return [context.numerics.to_layout(context.augmenter.batch(0, order[i : i + size])) for i in starts]

    @cached_property
    def _validation(self) -> Split:
        val = self._context.data.val
        return Split(val.x[:JUDGED_ON], val.y[:JUDGED_ON])
