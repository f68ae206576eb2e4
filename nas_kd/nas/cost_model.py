"""Predicts size and latency from measured networks: used to leave candidates out, never to report a figure.

Ridge regression of the logarithms of both costs on the logarithms of multiply-adds and parameters and on the
architecture's choices.
"""

from collections.abc import Mapping
from math import exp, log

import numpy as np
from numpy.typing import NDArray

from nas_kd.config.options import Budget
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.results.candidate import Architecture
from nas_kd.results.limits import CostValues, worst_log_ratio
from nas_kd.results.trial_record import Costs

RIDGE = 0.1  # penalty on the weights of standardised features
Floats = NDArray[np.float64]


class CostModel:
    """Predicts log bytes and log milliseconds of architectures; call `fit` first."""

    def __init__(self, builder: NetworkBuilder, budget: Budget) -> None:
        """Prepare a model of one search space.

        Args:
            builder: Counts parameters and multiply-adds of its networks.
            budget: What `log_excess` compares predictions with.
        """
        self._builder, self._budget = builder, budget
        self._loo_errors: Floats = np.empty((0, 2))  # leave-one-out errors of log bytes and log ms, a row a network
        self._columns: tuple[tuple[str, str], ...] = ()  # (dimension, text value) of the indicator features

    def fit(self, measured: Mapping[Architecture, Costs]) -> None:
        """Learn from measured networks, at least two.

        Args:
            measured: Costs with a latency, by architecture.

        Raises:
            ValueError: There are fewer than two, or a size or a latency is missing.
        """
        if len(measured) < 2:
            raise ValueError(f"a cost model needs two measured networks at least, got {len(measured)}")
        text_values = {(k, str(v)) for a in measured for k, v in a.choices.items() if isinstance(v, str)}
        self._columns = tuple(sorted(text_values))
        table = np.array([self._features(a, c) for a, c in measured.items()])
        targets = np.array([_log_costs(costs) for costs in measured.values()])
        self._mean, self._std = table.mean(axis=0), table.std(axis=0) + 1e-9
        inputs = np.column_stack([np.ones(len(table)), (table - self._mean) / self._std])
        penalty = RIDGE * np.eye(inputs.shape[1])
        penalty[0, 0] = 0.0
        solve = np.linalg.solve(inputs.T @ inputs + penalty, inputs.T)
        self._weights = solve @ targets
        leverage = np.einsum("ij,ji->i", inputs, solve)
        self._loo_errors = (targets - inputs @ self._weights) / np.maximum(1e-9, 1 - leverage)[:, None]

    @property
    def latency_error(self) -> float:
        """Median relative error of latency, each network predicted from the others alone (leave-one-out)."""
        return float(np.median(np.abs(np.expm1(self._loo_errors[:, 1]))))

    def latency_floor(self, architecture: Architecture, share: float = 0.05) -> tuple[float, float]:
        """Predict a latency, and a lower bound that holds for all but a `share` of networks.

        The bound is the prediction plus a low quantile of the leave-one-out errors, as in split conformal prediction
        (Vovk et al. 2005): of n fitted networks the `share * (n + 1)`th smallest error, rounded down. With fewer than
        `1 / share - 1` networks there is no such bound, and 0 is returned in its place.

        Args:
            architecture: The network.
            share: Share (0..1) of networks that may be faster than the bound.

        Returns:
            Expected latency and lower bound, both in ms.
        """
        expected, rank = self.predict(architecture)[1], int(share * (len(self._loo_errors) + 1) + 1e-9)
        if rank < 1:
            return exp(expected), 0.0
        return exp(expected), exp(expected + float(np.sort(self._loo_errors[:, 1])[rank - 1]))

    def predict(self, architecture: Architecture) -> tuple[float, float]:
        """Predict the logarithm of the size in bytes and of the latency in milliseconds."""
        counts = self._builder.counted([architecture])
        inputs = (np.array(self._features(architecture, counts)) - self._mean) / self._std
        size, latency = self._weights[0] + inputs @ self._weights[1:]
        return float(size), float(latency)

    def log_excess(self, architecture: Architecture) -> float:
        """Predict the log of the worst ratio of cost to limit, at least -1; feasible at <= 0."""
        size, latency = self.predict(architecture)
        expected: CostValues = {"macs": self._builder.macs(architecture), "size": exp(size), "latency": exp(latency)}
        return max(-1.0, worst_log_ratio(expected, self._budget))

    def _features(self, architecture: Architecture, counts: Costs) -> list[float]:
        numbers = [float(v) for _, v in sorted(architecture.choices.items()) if not isinstance(v, str)]
        indicators = [float(str(architecture.choices[name]) == value) for name, value in self._columns]
        logs = [log(1 + counts.macs), log(1 + counts.parameters)]
        return [*logs, *numbers, *indicators]


def _log_costs(costs: Costs) -> tuple[float, float]:
    return log(costs.require_size()), log(costs.require_latency().p50)
