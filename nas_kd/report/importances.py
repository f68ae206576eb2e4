"""How much of the candidates' accuracy each choice of the search explains."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 4  # groups of a choice that has many numeric values
FEWEST = 20  # trials below which shares of variance say nothing


def importances(choices: Sequence[Mapping[str, Any]], outcome: Sequence[float]) -> dict[str, float]:
    """Share of the outcome's variance explained by each choice alone, largest first.

    Kelley's epsilon squared: the correlation ratio eta squared less what groups of that number explain by
    chance; at least 0. Numbers with more than 8 values are cut into quarters. {} below 20 outcomes, or if
    all are equal.
    """
    values = np.asarray(outcome, dtype=np.float64)
    if len(values) < FEWEST or not values.std():
        return {}
    names = sorted({name for c in choices for name in c})
    found = {name: _share(_groups([c.get(name) for c in choices]), values) for name in names}
    return dict(sorted(((n, s) for n, s in found.items() if s is not None), key=lambda pair: (-pair[1], pair[0])))


def _groups(column: Sequence[Any]) -> NDArray[np.intp]:
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in column)
    if numeric and len(set(column)) > 8:
        table = np.asarray(column, dtype=np.float64)
        return np.searchsorted(np.quantile(table, np.arange(1, BINS) / BINS), table)
    labels = sorted({str(v) for v in column})
    return np.array([labels.index(str(v)) for v in column])


def _share(groups: NDArray[np.intp], values: NDArray[np.float64]) -> float | None:
    kinds = np.unique(groups)
    if len(kinds) < 2 or len(kinds) > len(values) // 2:
        return None
    within = sum(float(((values[groups == k] - values[groups == k].mean()) ** 2).sum()) for k in kinds)
    total = float(((values - values.mean()) ** 2).sum())
    chance = (len(kinds) - 1) * within / (len(values) - len(kinds))
    return max(0.0, (total - within - chance) / total)
