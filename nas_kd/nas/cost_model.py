"""What size and latency are likely to be, learnt from what was measured: to leave out candidates, never to report.

Ridge regression of their logarithms on the logarithms of multiply-adds and weights and on the architecture's choices.
"""

from collections.abc import Mapping
from math import exp, log

import numpy as np
from numpy.typing import NDArray

from nas_kd.config.options import Budget
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.results.candidate import Architecture
from nas_kd.results.limits import CostValues, worst
from nas_kd.results.records import Costs, Counted

RIDGE = 0.1  # of standardised features
Values = NDArray[np.float64]


class CostModel:
    """Predicts log bytes and log milliseconds; `fit` comes first."""

    def __init__(self, builder: NetworkBuilder, budget: Budget) -> None:
        self._builder, self._budget = builder, budget
        self._left_out: Values = np.empty((0, 2))
        self._columns: tuple[tuple[str, str], ...] = ()

    def fit(self, measured: Mapping[Architecture, Costs]) -> None:
        """Learn from measured costs, all with a latency.

        Raises:
            ValueError: there are fewer than two.
        """
        if len(measured) < 2:
            raise ValueError(f"a cost model needs two measured networks at least, got {len(measured)}")
        description = {(k, str(v)) for a in measured for k, v in a.choices.items() if isinstance(v, str)}
        self._columns = tuple(sorted(description))
        table = np.array([self._features(a, c) for a, c in measured.items()])
        targets = np.array([_logs(costs) for costs in measured.values()])
        self._mean, self._std = table.mean(axis=0), table.std(axis=0) + 1e-9
        inputs = np.column_stack([np.ones(len(table)), (table - self._mean) / self._std])
        penalty = RIDGE * np.eye(inputs.shape[1])
        penalty[0, 0] = 0.0
        solve = np.linalg.solve(inputs.T @ inputs + penalty, inputs.T)
        self._weights = solve @ targets
        leverage = np.einsum("ij,ji->i", inputs, solve)
        self._left_out = (targets - inputs @ self._weights) / np.maximum(1e-9, 1 - leverage)[:, None]

    @property
    def latency_error(self) -> float:
        """Median relative error of latency, each network predicted from the others alone (leave-one-out)."""
        return float(np.median(np.abs(np.expm1(self._left_out[:, 1]))))

    def latency_floor(self, architecture: Architecture, share: float = 0.05) -> tuple[float, float]:
        """Expected latency, and one above which it lies but for a `share` (0..1) of networks; in ms.

        The bound is the prediction less the error that so many of the fitted networks exceed, each predicted from the
        others alone (leave-one-out), counted as in conformal prediction (Vovk et al. 2005): of n networks the
        `share * (n + 1)`th least error, rounded down. With fewer than `1 / share - 1` networks nothing is that certain:
        the bound is then 0.
        """
        expected, place = self.predict(architecture)[1], int(share * (len(self._left_out) + 1) + 1e-9)
        if place < 1:
            return exp(expected), 0.0
        return exp(expected), exp(expected + float(np.sort(self._left_out[:, 1])[place - 1]))

    def predict(self, architecture: Architecture) -> tuple[float, float]:
        """Log bytes and log milliseconds."""
        counted = self._builder.counted([architecture])
        inputs = (np.array(self._features(architecture, counted)) - self._mean) / self._std
        size, latency = self._weights[0] + inputs @ self._weights[1:]
        return float(size), float(latency)

    def log_excess(self, architecture: Architecture) -> float:
        """By how much the budget is likely to be missed: the log of the worst ratio, feasible at <= 0."""
        size, latency = self.predict(architecture)
        expected: CostValues = {"macs": self._builder.macs(architecture), "size": exp(size), "latency": exp(latency)}
        return max(-1.0, worst(expected, self._budget))

    def _features(self, architecture: Architecture, counted: Counted) -> list[float]:
        numbers = [float(v) for _, v in sorted(architecture.choices.items()) if not isinstance(v, str)]
        description = [float(str(architecture.choices[name]) == value) for name, value in self._columns]
        logs = [log(1 + counted.macs), log(1 + counted.parameters)]
        return [*logs, *numbers, *description]


def _logs(costs: Costs) -> tuple[float, float]:
    if costs.latency_ms is None:
        raise ValueError("a cost model learns from measured latencies")
    return log(costs.size_bytes), log(costs.latency_ms.p50)
