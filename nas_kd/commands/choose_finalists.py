"""Chooses which trials are trained again as finalists, and one more if the best one is out of the budget."""

from collections.abc import Iterable, Sequence

import numpy as np

from nas_kd.config.options import Budget
from nas_kd.results.limits import CostName, cost_values, ratios
from nas_kd.results.pareto import hypervolume, non_dominated
from nas_kd.results.trial_record import Costs, TrialRecord


def choose(trials: Sequence[TrialRecord], at_most: int, min_score: float | None = None) -> list[TrialRecord]:
    """Choose members of the search's joint front within the budget, the best score first.

    Where there are more than `at_most`, they are added one by one, each time the one that adds most hypervolume.

    Args:
        trials: of the search.
        at_most: how many finalists.
        min_score: on validation, 0..1; the fastest member that reaches it, and all others that do, come before those
            that do not.
    """
    judged = [t for t in trials if t.status == "finished" and t.within_budget]
    if not judged:
        return []
    points = np.array([_point(t) for t in judged])
    keep = non_dominated(points)
    members, points = [t for t, k in zip(judged, keep, strict=True) if k], points[keep]
    reference = points.max(axis=0) + 0.1 * (np.ptp(points, axis=0) + 1e-9)
    taken = [int(np.lexsort((points[:, 2], points[:, 1], points[:, 0]))[0])]
    reaching = [i for i, t in enumerate(members) if min_score is not None and (t.val_score or 0) >= min_score]
    if reaching and at_most > 1 and (fastest := min(reaching, key=lambda i: (points[i, 2], i))) not in taken:
        taken.append(fastest)
    while len(taken) < min(at_most, len(members)):
        rest = [i for i in reaching if i not in taken] or [i for i in range(len(members)) if i not in taken]
        taken.append(max(rest, key=lambda i: (hypervolume(points[[*taken, i]], reference), -i)))
    return [members[i] for i in taken]


def fallback_finalist(
    refused: Sequence[tuple[TrialRecord, Costs]], others: Iterable[TrialRecord], budget: Budget
) -> list[TrialRecord]:
    """Choose one more finalist in place of those that cannot be deployed; empty if no other leaves room enough.

    It would be within the budget even if its own file's costs grew by as much over what the search had measured.

    Args:
        refused: finalists whose trained files are out of the budget, and those files' costs.
        others: trials that were not chosen.
        budget: limits of costs.
    """
    growth = dict[CostName, float]()
    for trial, found in refused:
        before = cost_values(trial.costs) if trial.costs else {}
        for name, value in cost_values(found).items():
            if value and (searched := before.get(name)):
                growth[name] = max(growth.get(name, 1.0), value / searched)

    def has_room(trial: TrialRecord) -> bool:
        shares = ratios(cost_values(trial.costs), budget) if trial.costs else {}
        return all(share * growth.get(name, 1.0) <= 1 for name, share in shares.items())

    return choose([t for t in others if has_room(t)], 1)


def _point(trial: TrialRecord) -> tuple[float, float, float]:
    """Error, log bytes, log ms: all minimised."""
    costs = trial.costs
    if trial.val_score is None or costs is None:
        raise ValueError(f"trial {trial.number} is finished but not judged")
    return 1 - trial.val_score, float(np.log(costs.require_size())), float(np.log(costs.require_latency().p50))
