"""What samplers look for: all objectives, and by turns accuracy alone within the constraints."""

from statistics import median

import optuna
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from nas_kd.nas.sampler_view import CONSTRAINT, DIRECTIONS
from nas_kd.nas.samplers.auto import ACCURACY_EVERY
from nas_kd.nas.samplers.base import make_sampler

SPACE = {"width": FloatDistribution(0.0, 1.0)}
LIMIT = 0.7
STORED = 20 * ACCURACY_EVERY


def draws(sampler: str, first: int) -> list[float]:
    """Widths that are proposed with these and later numbers; the wider, the more accurate, the larger, the slower."""
    study = optuna.create_study(directions=DIRECTIONS)
    for number in range(STORED):
        width = number / STORED
        fits = width <= LIMIT
        study.add_trial(
            create_trial(
                state=TrialState.COMPLETE if fits else TrialState.PRUNED,
                values=[width, 1000 * width, width] if fits else None,
                params={"width": width},
                distributions=dict(SPACE),
                constraints={CONSTRAINT: width - LIMIT},
            )
        )
    found = []
    for seed in range(20):
        study.sampler = make_sampler(
            sampler, seed, first, space=SPACE, best_trials=range, tried_enough=lambda parameters: False
        )
        found.append(study.ask(dict(SPACE)).params["width"])
    return found


def test_some_proposals_of_auto_seek_the_most_accurate_within_the_budget_alone() -> None:
    assert LIMIT - 0.15 < median(draws("auto", STORED)) < LIMIT + 0.1
    assert median(draws("auto", STORED + 1)) < LIMIT / 2


def test_tpe_is_optunas_for_every_proposal() -> None:
    assert median(draws("tpe", STORED)) < LIMIT / 2
    assert draws("tpe", STORED + 1) == draws("auto", STORED + 1)
