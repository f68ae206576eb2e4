"""What size and latency are likely to be, learnt from what was measured: to leave out candidates, never to report.

Ridge regression of their logarithms on the logarithms of multiply-adds and weights and on the architecture's choices.
"""

from collections.abc import Mapping
from math import log

import numpy as np
from numpy.typing import NDArray

from nas_kd.candidate import Architecture
from nas_kd.config import Budget
from nas_kd.pipeline.networks import Builder
from nas_kd.record import Costs

RIDGE = 0.1  # of standardised features
Values = NDArray[np.float64]


class CostModel:
    """Predicts log bytes and log milliseconds; `fit` comes first."""

    def __init__(self, builder: Builder, budget: Budget) -> None:
        self._builder, self._budget = builder, budget
        self._columns: tuple[tuple[str, str], ...] = ()

    def fit(self, measured: Mapping[Architecture, Costs]) -> None:
        """Learn from measured costs, all with a latency.

        Raises:
            ValueError: there are fewer than two.
        """
        if len(measured) < 2:
            raise ValueError(f"a cost model needs two measured networks at least, got {len(measured)}")
        words = {(k, str(v)) for a in measured for k, v in a.choices.items() if isinstance(v, str)}
        self._columns = tuple(sorted(words))
        table = np.array([self._features(a) for a in measured])
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

    def predict(self, architecture: Architecture) -> tuple[float, float]:
        """Log bytes and log milliseconds."""
        inputs = (np.array(self._features(architecture)) - self._mean) / self._std
        size, latency = self._weights[0] + inputs @ self._weights[1:]
        return float(size), float(latency)

    def excess(self, architecture: Architecture) -> float:
        """By how much the budget is likely to be missed: the log of the worst ratio, feasible at <= 0."""
        size, latency = self.predict(architecture)
        ratios = [-1.0]
        if self._budget.max_size_bytes is not None:
            ratios.append(size - log(max(1, self._budget.max_size_bytes)))
        if self._budget.max_latency_ms is not None:
            ratios.append(latency - log(self._budget.max_latency_ms))
        return max(ratios)

    def _features(self, architecture: Architecture) -> list[float]:
        numbers = [float(v) for _, v in sorted(architecture.choices.items()) if not isinstance(v, str)]
        words = [float(str(architecture.choices[name]) == value) for name, value in self._columns]
        logs = [log(1 + self._builder.macs(architecture)), log(1 + self._builder.parameters(architecture))]
        return [*logs, *numbers, *words]


def _logs(costs: Costs) -> tuple[float, float]:
    if costs.latency_ms is None:
        raise ValueError("a cost model learns from measured latencies")
    return log(costs.size_bytes), log(costs.latency_ms.p50)
