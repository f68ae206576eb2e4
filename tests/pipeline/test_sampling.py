"""What samplers look for: all objectives, and by turns accuracy alone within the constraints."""

from statistics import median

import optuna
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from nas_kd.config.options import Sampler
from nas_kd.nas.sampler_view import CONSTRAINT, DIRECTIONS
from nas_kd.nas.samplers.base import MOST_ACCURATE, make_sampler

SPACE = {"width": FloatDistribution(0.0, 1.0)}
LIMIT = 0.7
TOLD = 20 * MOST_ACCURATE


def draws(sampler: Sampler, first: int) -> list[float]:
    """Widths that are proposed with these and later numbers; the wider, the more accurate, the larger, the slower."""
    study = optuna.create_study(directions=DIRECTIONS)
    for number in range(TOLD):
        width = number / TOLD
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
            sampler, seed, first, space=SPACE, best=range, tried_enough=lambda parameters: False
        )
        found.append(study.ask(dict(SPACE)).params["width"])
    return found


def test_some_proposals_of_auto_seek_the_most_accurate_within_the_budget_alone() -> None:
    assert LIMIT - 0.15 < median(draws("auto", TOLD)) < LIMIT + 0.1
    assert median(draws("auto", TOLD + 1)) < LIMIT / 2


def test_whoever_asks_for_tpe_is_given_optunas() -> None:
    assert median(draws("tpe", TOLD)) < LIMIT / 2
    assert draws("tpe", TOLD + 1) == draws("auto", TOLD + 1)
