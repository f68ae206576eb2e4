"""Judges parts of a trained elastic network with the weights that they inherit.

The score is taken on validation samples, after batch statistics were re-estimated (Yu et al. 2020, BigNAS,
arXiv:2003.11142).
"""

from collections.abc import Mapping
from functools import cached_property, lru_cache
from typing import Any

from torch import Tensor

from nas_kd.data.dataset import Dataset, Split
from nas_kd.data.view import View
from nas_kd.engine.batch_statistics import re_estimate, statistics_batches
from nas_kd.engine.evaluation import evidence_of
from nas_kd.engine.numerics import Numerics
from nas_kd.errors import TrialError
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.models.subnetwork import cut_weights
from nas_kd.results.candidate import Architecture
from nas_kd.scores.base import Score
from nas_kd.serialization import fingerprint
from nas_kd.store.store import Store

STATISTICS_BATCHES = 4
MAX_SAMPLES = 1000  # of the validation split


class SubnetEvaluator:
    """Judges sub-networks; results are kept in the store, for all processes."""

    def __init__(
        self,
        data: Dataset,
        builder: NetworkBuilder,
        store: Store,
        *,
        augmenter: View,
        numerics: Numerics,
        batch_size: int,
        seed: int,
        score: Score,
    ) -> None:
        """Judge on these data.

        Args:
            data: validation samples judge, training samples estimate batch statistics.
            builder: builds networks for these data.
            store: has the elastic network's weights, and keeps results.
            augmenter: of the training split.
            numerics: number format and memory layout.
            batch_size: of training.
            seed: draws the training samples.
            score: that sub-networks are judged by.
        """
        self._data, self._builder, self._store = data, builder, store
        self._augmenter, self._numerics = augmenter, numerics
        self._batch_size, self._seed, self._score = batch_size, seed, score
        self._weights = lru_cache(maxsize=1)(self._load)

    def score(self, architecture: Architecture, key: str) -> float:
        """Score of a part of the elastic network on validation samples, 0..1.

        Args:
            architecture: the part.
            key: of the elastic network's weights in the store.

        Raises:
            TrialError: the store has no such weights.
        """
        entry = fingerprint([key, architecture.to_json(), len(self._validation)])
        score: Any = self._store.load_json("inherited", entry)
        if score is None:
            network = self._builder.build(architecture, self._seed)
            network.load_state_dict(cut_weights(self._weights(key), network))
            network = re_estimate(self._numerics.place(network), self._batches)
            score = self._score.value(evidence_of(network, self._validation, self._data.task, self._numerics))
            self._store.save_json("inherited", entry, score)
        return float(score)

    def require(self, key: str) -> None:
        """Refuse an elastic network whose weights are gone.

        Raises:
            TrialError: the store has no such weights.
        """
        self._weights(key)

    def _load(self, key: str) -> Mapping[str, Tensor]:
        if (entry := self._store.load("weights", key)) is None:
            raise TrialError("the elastic network is no longer in the store")
        return entry.tensors

    @cached_property
    def _batches(self) -> list[Tensor]:
        return statistics_batches(
            self._augmenter,
            self._numerics,
            batch_size=self._batch_size,
            count=STATISTICS_BATCHES,
            seed=self._seed,
        )

    @cached_property
    def _validation(self) -> Split:
        val = self._data.val
        return Split(val.x[:MAX_SAMPLES], val.y[:MAX_SAMPLES])
